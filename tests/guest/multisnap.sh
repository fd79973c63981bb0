# Sourced after lib.sh by the scripts that try the command multisnap.
# shellcheck shell=bash

# What it runs under: another user, say.
as=()
# ms <word>...: leaves output in $out, errors in $err, status in $rc.
ms() {
	rc=0
	out=$("${as[@]}" multisnap "$@" 2> /tmp/err) || rc=$?
	err=$(cat /tmp/err)
}
# works <what> <word>...: ends well, and says nothing on standard error.
works() {
	ms "${@:2}"
	is "$1" "status $rc: $err" "status 0: "
}
# prints <what> <wanted> <word>...
prints() {
	ms "${@:3}"
	is "$1" "$rc $out$err" "0 $2"
}
# refused <what> <part of the line> <word>...: one line, which says what to do, and status 2.
refused() { refused_with 2 "$@"; }
# refused_with <status> <what> <part of the line> <word>...
refused_with() {
	ms "${@:4}"
	[[ $err =~ "; "[a-z] ]] || err="no advice: $err"
	like "$2" "$rc $(wc -l < /tmp/err) $err" "^$1 1 multisnap: .*$3"
}
