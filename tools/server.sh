# shellcheck shell=bash
#
# A private PostgreSQL with cmq, for demo, psql and tests.  Sourced, not run:
#
#   work_begin demo           a directory of its own, $work, removed at exit
#   use_postgresql            from packages.sh: sets $PG_CONFIG and $bindir
#   build_and_install         from a copy of the tree, $work/cmq
#   server_start 'a = b' ...  a server that is reached by its own socket only
#   as_user psql ...
#
# A server refuses to run as root, so root lends it to an ordinary user,
# $run_user; everybody else runs it as themselves.  Whatever happens, Ctrl-C
# too, work_end leaves nothing behind but the installed extension.

# Nothing of the caller's may lead to another server or into another make.
for variable in "${!PG@}"; do
	case $variable in
		PG_CONFIG | PG_TEST_*) ;;
		*) unset "$variable" ;;
	esac
done
unset variable MAKEFLAGS MFLAGS MAKELEVEL
export LANG=C.UTF-8 LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/packages.sh
. "$top/tools/packages.sh"
# shellcheck source=tools/node.sh
. "$top/tools/node.sh"

# Progress goes to standard error: standard output is for results.
note()
{
	echo "== $*" >&2
}

die()
{
	echo "cmq: $*" >&2
	exit 1
}

# Run a command; show what it printed only if it fails.
quietly()
{
	if ! "$@" </dev/null >"$work/log" 2>&1; then
		cat "$work/log" >&2
		die "failed: $*"
	fi
}

# Fail unless this can become root, to do what the argument says.
need_root()
{
	((EUID == 0)) || command -v sudo >/dev/null || die "to $1, root or sudo is needed"
}

as_root()
{
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

# Run a command as the ordinary user in $work, since that user may not even
# enter the caller's directory.  Its temporary files go there, too.
as_user()
(
	cd "$work" || exit
	export TMPDIR=$work
	if ((EUID == 0)); then
		exec setpriv --reuid="$run_user" --regid="$(id -g "$run_user")" --init-groups \
			env HOME="$work" USER="$run_user" LOGNAME="$run_user" "$@"
	fi
	exec "$@"
)

#
# The work directory
#

undo=()

# Undo, last first, what root has changed for a moment.
undo_all()
{
	while ((${#undo[@]} > 0)); do
		# each is a command without quoting
		# shellcheck disable=SC2086
		as_root ${undo[-1]} || true
		unset 'undo[-1]'
	done
}

# Also stops servers that interrupted tests have left.
# shellcheck disable=SC2317,SC2329	# the trap calls it
work_end()
{
	local file

	trap '' HUP INT TERM
	undo_all
	while read -r file; do
		as_user "$bindir/pg_ctl" -D "$(dirname "$file")" -s -m immediate stop 2>/dev/null || true
	done < <(find "$work" -name postmaster.pid)
	rm -rf "$work"
}

# Not below $TMPDIR: it may be closed to the ordinary user, or too long a path
# for a socket.
work_begin()
{
	work=$(mktemp -d "/tmp/cmq-$1.XXXXXX")
	trap work_end EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# Copy the tree without what was built in it, build the copy as the ordinary
# user, install it.  The arguments go to make.
build_and_install()
{
	local make

	mkdir "$work/cmq"
	tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./results --exclude=./log --exclude='./tmp_*' -cf - . |
		tar -C "$work/cmq" --no-same-owner -xf -
	if ((EUID == 0)); then
		run_user=postgres
		id "$run_user" >/dev/null 2>&1 || run_user=nobody
		chown -R "$run_user" "$work"
	fi

	make=(make -C "$work/cmq" "PG_CONFIG=$PG_CONFIG" "$@")
	note "building"
	quietly as_user "${make[@]}" -j "$(nproc)"
	note "installing into $("$PG_CONFIG" --pkglibdir)"
	if [[ -w $("$PG_CONFIG" --pkglibdir) && -w $("$PG_CONFIG" --sharedir)/extension ]]; then
		quietly "${make[@]}" install
	else
		need_root "install cmq"
		quietly as_root "${make[@]}" install
	fi
}

# Start the server; arguments are lines for postgresql.conf.  psql and the like
# find it through PGHOST.
server_start()
{
	note "starting a private server"
	export PGHOST=$work PGPORT=54329 PGUSER=postgres PGDATABASE=postgres
	quietly as_user "$bindir/initdb" -D "$work/data" -U "$PGUSER" -A trust -E UTF8 --no-locale --no-sync
	# $PGPORT only names the socket: the directory is ours, and there is no TCP
	printf '%s\n' "shared_preload_libraries = 'cmq'" "listen_addresses = ''" \
		"unix_socket_directories = '$PGHOST'" "port = $PGPORT" "$@" |
		as_user tee -a "$work/data/postgresql.conf" >/dev/null
	as_user "$bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -s start || {
		cat "$work/server.log" >&2
		die "the server did not start"
	}
}
