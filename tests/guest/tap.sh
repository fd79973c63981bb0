# Sourced by tests that run in a guest: TAP, the lines that tell the outcome of a test. Those of
# tests/boot have a link to it.
# shellcheck shell=bash

tests_planned='' tests_run=0 tests_failed=0

# shellcheck disable=SC2034 # lib.sh looks at it.
plan() { tests_planned=$1; echo "1..$1"; }
diag() { printf '%s\n' "$*" | sed 's/^/# /'; }
result() { # <0 or 1> <what>
	tests_run=$((tests_run + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tests_run - $2"
	else
		tests_failed=$((tests_failed + 1))
		echo "not ok $tests_run - $2"
	fi
}

# ok <what> <command>...: the command succeeds.
ok() {
	local what=$1 output rc=0
	shift
	output=$("$@" 2>&1) || rc=$?
	result "$((rc != 0))" "$what"
	[ "$rc" -eq 0 ] || diag "$*: status $rc: $output"
}
# is <what> <got> <wanted>
is() {
	local rc=0
	[ "$2" = "$3" ] || rc=1
	result "$rc" "$1"
	[ "$rc" -eq 0 ] || diag "got    '$2'"$'\n'"wanted '$3'"
}
# like <what> <got> <extended regular expression>
like() {
	local rc=0
	[[ $2 =~ $3 ]] || rc=1
	result "$rc" "$1"
	[ "$rc" -eq 0 ] || diag "got '$2'"$'\n'"which is not like '$3'"
}
# fails_with <what> <errno name> <command>...: fails, and says that error.
fails_with() {
	local what=$1 error=$2 output rc=0 bad=0
	shift 2
	output=$("$@" 2>&1) || rc=$?
	[ "$rc" -ne 0 ] && [[ $output == *"$(error_text "$error")"* ]] || bad=1
	result "$bad" "$what"
	[ "$bad" -eq 0 ] || diag "$*: wanted $error, got status $rc: $output"
}
skip() { tests_run=$((tests_run + 1)); echo "ok $tests_run - $1 # SKIP $2"; }

error_text() {
	case $1 in
	EPERM) echo "Operation not permitted" ;;
	ENOENT) echo "No such file or directory" ;;
	ENOTBLK) echo "Block device required" ;;
	EIO) echo "Input/output error" ;;
	ENXIO) echo "No such device or address" ;;
	ENODEV) echo "No such device" ;;
	ENOMEM) echo "Cannot allocate memory" ;;
	EBUSY) echo "Device or resource busy" ;;
	EAGAIN) echo "Resource temporarily unavailable" ;;
	EEXIST) echo "File exists" ;;
	EINVAL) echo "Invalid argument" ;;
	ENOSPC) echo "No space left on device" ;;
	EROFS) echo "Read-only file system" ;;
	ERANGE) echo "Numerical result out of range" ;;
	EOPNOTSUPP) echo "Operation not supported" ;;
	*) echo "unknown errno $1" ;;
	esac
}
