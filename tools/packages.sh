# shellcheck shell=bash
#
# Which PostgreSQL to build against, and the Debian packages that are missing
# for it.  Sourced by server.sh, not run.

oldest_major=15

# Major version of a pg_config, nothing if it does not run.
pg_major()
{
	"$1" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'
}

# Does this pg_config belong to a server that can be built against and run?
pg_usable()
{
	local major bindir

	major=$(pg_major "$1")
	[[ -n $major ]] && ((major >= oldest_major)) || return 1
	bindir=$("$1" --bindir)
	# libpq-dev brings pgxs.mk, but not the server's headers
	[[ -x $bindir/postgres && -x $bindir/initdb && -x $bindir/psql && -f $("$1" --pgxs) &&
		-f $("$1" --includedir-server)/postgres.h ]]
}

# Print the pg_config to use, absolute; fail if there is none yet.  The user's
# PG_CONFIG comes first and excludes all others.
find_pg_config()
{
	local candidate

	for candidate in ${PG_CONFIG:-pg_config $(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV)}; do
		if candidate=$(command -v "$candidate") && pg_usable "$candidate"; then
			realpath --no-symlinks "$candidate"
			return
		fi
	done
	return 1
}

# Print the major version whose packages are needed: the one that PG_CONFIG
# names, else that of the newest server here, else Debian's default as its
# package lists have it.  Prints an empty line if it cannot be told, or if
# PG_CONFIG is not from a package.
wanted_major()
{
	local major=

	case ${PG_CONFIG:-pg_config} in
		pg_config | /usr/bin/pg_config)
			major=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null |
				awk -F/ -v oldest="$oldest_major" '$5 >= oldest { print $5 }' | sort -n | tail -n 1)
			if [[ -z $major ]] && command -v apt-cache >/dev/null; then
				major=$(apt-cache depends postgresql 2>/dev/null |
					sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p')
			fi
			;;
		/usr/lib/postgresql/*/bin/pg_config)
			major=$(cut -d/ -f5 <<<"$PG_CONFIG")
			;;
	esac
	echo "$major"
}

# Print $DEBIAN_MIRROR, else the mirror that this machine itself uses, if any.
debian_mirror()
{
	[[ -z ${DEBIAN_MIRROR:-} ]] || { echo "$DEBIAN_MIRROR"; return; }
	{ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
		sed -nE 's/^(deb +(\[[^]]*\] +)?|URIs: *)(https?:[^ ]*\/debian\/?)( .*|$)/\3/p' | sed -n 1p
}

# Print the missing packages that do not depend on PostgreSQL's version.
missing_tools()
{
	command -v make >/dev/null || echo make
	command -v "${CC:-gcc}" >/dev/null || echo gcc
	[[ -e /usr/include/stdio.h ]] || echo libc6-dev
	if [[ ${1:-} == @(test|quick) ]]; then
		command -v prove >/dev/null || echo perl
		perl -MIPC::Run -e 1 2>/dev/null || echo libipc-run-perl
	fi
	if [[ ${1:-} == test ]]; then
		# one test tries the examples for these, and is skipped without them
		! command -v apt-get >/dev/null || command -v prometheus-postgres-exporter >/dev/null ||
			echo prometheus-postgres-exporter
		! command -v apt-get >/dev/null || command -v promtool >/dev/null || echo prometheus
		# one test needs it, as above
		! command -v apt-get >/dev/null || PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null || echo pgbouncer
		# one test sets the clock with it, and is skipped without it
		! command -v apt-get >/dev/null || compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null ||
			echo libfaketime
		# one test draws with it, and leaves the pictures out without it
		! command -v apt-get >/dev/null || command -v gnuplot >/dev/null || echo gnuplot-nox
		missing_repack
		missing_clients
	fi
}

# Print the package of pg_repack, which one test runs where it is, if Debian has
# one for this server.
missing_repack()
{
	local major package

	command -v apt-cache >/dev/null || return 0
	major=$(wanted_major)
	package=postgresql-${major:-?}-repack
	[[ -x /usr/lib/postgresql/$major/bin/pg_repack ]] ||
		[[ -z $(apt-cache search --names-only "^$package\$" 2>/dev/null) ]] || echo "$package"
}

# Print the missing packages of the clients and tools that tests try, each of
# which is skipped without.
missing_clients()
{
	command -v apt-get >/dev/null || return 0
	/usr/bin/python3 -c 'import psycopg' 2>/dev/null || echo python3-psycopg
	/usr/bin/python3 -c 'import psycopg2' 2>/dev/null || echo python3-psycopg2
	/usr/bin/python3 -c 'import sqlalchemy' 2>/dev/null || echo python3-sqlalchemy
	/usr/bin/python3 -c 'import pandas' 2>/dev/null || echo python3-pandas
	Rscript -e 'library(RPostgreSQL)' >/dev/null 2>&1 || printf '%s\n' r-base-core r-cran-rpostgresql
	[[ -e /usr/share/java/postgresql.jar ]] || echo libpostgresql-jdbc-java
	# a runtime alone does not run a source file
	java --list-modules 2>/dev/null | grep -q '^jdk.compiler' || echo default-jdk-headless
	# where npm is, it gets node-postgres; else Debian's package has it
	command -v npm >/dev/null || [[ -d /usr/share/nodejs/pg ]] || echo node-pg
	# Go's pgx, PHP's pgsql, ruby-pg, and Rust's tokio-postgres with the tools that know its package
	command -v go >/dev/null || echo golang-go
	[[ -d /usr/share/gocode/src/github.com/jackc/pgx/v4 ]] || echo golang-github-jackc-pgx-v4-dev
	command -v php >/dev/null || echo php-cli
	php -r 'exit((int) !extension_loaded("pdo_pgsql"));' 2>/dev/null || echo php-pgsql
	command -v ruby >/dev/null || echo ruby
	ruby -rpg -e 1 2>/dev/null || echo ruby-pg
	[[ -x /usr/bin/cargo ]] || echo cargo
	[[ -x /usr/bin/rustc ]] || echo rustc
	compgen -G '/usr/share/cargo/registry/tokio-postgres-*' >/dev/null || echo librust-tokio-postgres-dev
	# the console's tests
	missing_node
	command -v chromium >/dev/null || echo chromium
	# psql completes names for a terminal alone
	perl -MIO::Pty -e 1 2>/dev/null || echo libio-pty-perl
}

# Print the missing packages of PostgreSQL.
missing_postgresql()
{
	local major

	if find_pg_config >/dev/null; then
		return
	fi
	major=$(wanted_major)
	[[ -x /usr/lib/postgresql/$major/bin/postgres ]] || echo "postgresql-${major:-?}"
	echo "postgresql-server-dev-${major:-?}"
}

# Install packages, and nothing but that: no default cluster is created, no
# server is started.
install_packages()
{
	local clusters=/etc/postgresql-common/createcluster.d
	local policy=/usr/sbin/policy-rc.d

	undo+=("rmdir -p --ignore-fail-on-non-empty $clusters" "rm -f $clusters/zz-cmq.conf")
	as_root mkdir -p "$clusters"
	as_root tee "$clusters/zz-cmq.conf" <<<"create_main_cluster = false" >/dev/null
	if [[ ! -e $policy ]]; then
		undo+=("rm -f $policy")
		as_root tee "$policy" <<<$'#!/bin/sh\nexit 101' >/dev/null
		as_root chmod 755 "$policy"
	fi
	quietly as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 PATH="$PATH:/usr/sbin:/sbin" \
		apt-get -o DPkg::Lock::Timeout=300 -y --no-install-recommends install "$@"
	undo_all
}

# Find PostgreSQL and the tools; install what is missing.  Sets PG_CONFIG and
# bindir.  With the argument "test" also what the tests need, with "quick" what the
# tests of make check-quick need.
use_postgresql()
{
	local missing
	local needed="PostgreSQL $oldest_major or newer: its server, psql and development files"

	mapfile -t missing < <(missing_tools "$@" && missing_postgresql)
	if ((${#missing[@]} > 0)); then
		command -v apt-get >/dev/null ||
			die "missing: ${missing[*]} (names of Debian packages); there is no apt-get to install them with"
		[[ -z ${PG_CONFIG:-} || ${missing[*]} != *\?* ]] || die "PG_CONFIG=$PG_CONFIG is not from $needed"
		need_root "install ${missing[*]}"
		note "reading Debian's package lists"
		quietly as_root apt-get -o DPkg::Lock::Timeout=300 update
		mapfile -t missing < <(missing_tools "$@" && missing_postgresql)
		[[ ${missing[*]} != *\?* ]] || die "no package found for $needed"
		note "installing ${missing[*]}"
		install_packages "${missing[@]}"
	fi
	PG_CONFIG=$(find_pg_config) || die "not found${PG_CONFIG:+ by PG_CONFIG=$PG_CONFIG}: $needed"
	bindir=$("$PG_CONFIG" --bindir)
	note "using $("$PG_CONFIG" --version)"
}
