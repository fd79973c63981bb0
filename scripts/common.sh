# Sourced by the other scripts: the cache folder, progress lines, and how a
# Debian root is made.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${MULTISNAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/multisnapshot}
suite=trixie
mkdir -p "$cache/debs"

# What a script reports goes to stderr: stdout carries only its result.
say() { echo "${0##*/}: [${SECONDS}s] $*" >&2; }
die() { echo "${0##*/}: $*" >&2; exit 1; }

# step <what> <command>...: runs a slow command with its output in a log, and
# says every half minute that it still goes on.
step() {
	local what=$1 log=$cache/${0##*/}.log started=$SECONDS rc=0 job beat
	shift
	say "$what ..."
	"$@" > "$log" 2>&1 < /dev/null &
	job=$!
	# Without the lock: a last sleep would hold it for no one.
	( while sleep 30; do say "$what: still at it"; done ) > /dev/null 9>&- &
	beat=$!
	wait "$job" || rc=$?
	kill "$beat" 2> /dev/null
	wait "$beat" 2> /dev/null || true
	if [ "$rc" -ne 0 ]; then
		tail -n 40 "$log" >&2
		die "$what failed (whole log: $log)"
	fi
	say "$what: done in $((SECONDS - started))s"
}

# need <command> <package>: installs the package if the command is missing.
need() {
	[ -z "$(PATH=$PATH:/usr/sbin:/sbin command -v "$1")" ] || return 0
	[ "$(id -u)" -eq 0 ] && [ -n "$(command -v apt-get)" ] ||
		die "needs $1: install the package $2, or run as root where apt-get works"
	[ -n "${apt_updated:-}" ] || step "updating the package lists" with_apt apt-get update -q
	apt_updated=1
	step "installing $2" with_apt env DEBIAN_FRONTEND=noninteractive \
		apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$2"
}

# with_apt <command>...: waits for other runs' apt-get, which itself would give up at once.
with_apt() { flock "$cache/apt.lock" "$@"; }

# locked <name>: only one run at a time goes past this line; the lock ends
# with the script.
locked() {
	exec 9> "$cache/$1.lock"
	flock --nonblock 9 || { say "waiting for another run"; flock 9; }
}

# The mirror this machine's own apt uses, so that a proxy or a local mirror is
# honoured and no address stands in this tree.
mirror() {
	local site=${MULTISNAP_MIRROR:-}
	[ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
	# Before the first "apt-get update" no Origin is known.
	[ -n "$site" ] || site=$(apt-get indextargets --format '$(SITE)' \
		'Created-By: Packages' 'Component: main' | sed -n 1p)
	[ -n "$site" ] || die "no Debian mirror in apt's configuration: set MULTISNAP_MIRROR"
	echo "$site"
}

# The lines of sources.list for the roots.
sources() {
	local site
	site=$(mirror)
	echo "deb $site $suite main"
	echo "deb $site $suite-updates main"
	echo "deb $site $suite-backports main"
}

# bootstrap <dir> <packages> [mmdebstrap option...]: downloaded packages are kept,
# so that the next root is quick.
bootstrap() {
	local target=$1 packages=$2 conf=$cache/apt.conf
	shift 2
	[ "$(id -u)" -eq 0 ] || die "must be root to make a Debian root"
	apt-config dump | grep -E '^Acquire::(https?|Check)[-:]' > "$conf" || true
	sources | mmdebstrap --mode=root --variant=minbase --dpkgopt=force-unsafe-io \
		--skip=download/empty --skip=essential/unlink --aptopt="$conf" \
		--setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
		--setup-hook="cp -al '$cache'/debs/*.deb \"\$1/var/cache/apt/archives/\" || true" \
		--customize-hook="cp -aln \"\$1\"/var/cache/apt/archives/*.deb '$cache/debs/' || true" \
		"$@" --include="$packages" "$suite" "$target" -
}

# forget <name pattern> <kept>: removes what earlier versions left in the cache.
# Others may still use it for a while.
forget() {
	find "$cache" -maxdepth 1 -name "$1" ! -path "$2" -mtime +14 -exec rm -rf {} +
}

# What the outcome of a cached step depends on, as a short name.
key() { sha256sum | cut -c 1-12; }

in_root() { "$top/scripts/in-root" "$@"; }

# rule <what> <command>...: a test.  The command must succeed; what it prints is the reason.
passed=0 failed=0
rule() {
	local what=$1 output rc=0
	shift
	output=$("$@" 2>&1) || rc=$?
	if [ "$rc" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok - $what"
	else
		failed=$((failed + 1))
		echo "not ok - $what (status $rc)"
		echo "${output//$'\n'/$'\n'    }"
	fi
}
# The last line of a check.
counts() {
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}
