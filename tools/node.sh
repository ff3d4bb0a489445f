# shellcheck shell=bash
#
# Node.js for the console, and the libraries that its lock file names.  Sourced after
# packages.sh, not run.

oldest_node=18.19

# Is there a Node.js that is new enough?
node_usable()
{
	command -v node >/dev/null &&
		[[ $(printf '%s\n' "$oldest_node" "$(node --version | tr -d v)" | sort -V | head -n 1) == "$oldest_node" ]]
}

# Print the missing packages of Node.js.
missing_node()
{
	node_usable || echo nodejs
	command -v npm >/dev/null || echo npm
}

# use_node DIRECTORY [options of npm ci]: Node.js, and in the directory the libraries of
# its package-lock.json, unless they are there.  What the libraries would run when they
# are installed is not run.
use_node()
{
	local directory=$1 missing
	shift

	mapfile -t missing < <(missing_node)
	if ((${#missing[@]} > 0)); then
		command -v apt-get >/dev/null || node_die "missing: Node.js $oldest_node or newer, with npm"
		((EUID == 0)) || command -v sudo >/dev/null || node_die "to install ${missing[*]}, root or sudo is needed"
		echo "== installing ${missing[*]} (with Debian's npm, some hundred small packages)" >&2
		node_quietly node_root apt-get -o DPkg::Lock::Timeout=300 update
		node_quietly node_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 PATH="$PATH:/usr/sbin:/sbin" \
			apt-get -o DPkg::Lock::Timeout=300 -y --no-install-recommends install "${missing[@]}"
		node_usable || node_die "Node.js $oldest_node or newer is needed; this is $(node --version)"
	fi
	if ! cmp -s "$directory/package-lock.json" "$directory/node_modules/.cmq-lock$*"; then
		echo "== fetching the console's libraries" >&2
		(cd "$directory" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error "$@" >&2)
		cp "$directory/package-lock.json" "$directory/node_modules/.cmq-lock$*"
	fi
}

# Run a command; show what it printed only if it fails.
node_quietly()
{
	local output

	output=$("$@" 2>&1 </dev/null) || { echo "$output" >&2; node_die "failed: $*"; }
}

node_root()
{
	if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

node_die()
{
	echo "cmq: $*" >&2
	exit 1
}
