# Sourced by the scripts here: tests, which are lines of TAP.
# shellcheck shell=bash

tests_run=0
result() { # <0 or 1> <what>
	tests_run=$((tests_run + 1))
	if [ "$1" -eq 0 ]; then echo "ok $tests_run - $2"; else echo "not ok $tests_run - $2"; fi
}
# ok <what> <command>...
ok() {
	local what=$1 output rc=0
	shift
	output=$("$@" 2>&1) || rc=$?
	result "$((rc != 0))" "$what"
	[ "$rc" -eq 0 ] || echo "# $*: status $rc: $output"
}
# is <what> <got> <wanted>
is() {
	local rc=0
	[ "$2" = "$3" ] || rc=1
	result "$rc" "$1"
	[ "$rc" -eq 0 ] || printf '%s\n' "got    '$2'" "wanted '$3'" | sed 's/^/# /'
}
