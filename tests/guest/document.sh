# Sourced after lib.sh by the scripts that run the commands of documents.
# shellcheck shell=bash

documents=/payload/documents
ran=()
# What is done to the commands before they run, as a sed script: a guest has no room for sizes
# that make sense elsewhere.
scale=''
# The commands are installed where a package has them.
mkdir -p /usr/sbin
for name in multisnap multisnap-lvm; do ln -sf "/payload/bin/$name" /usr/sbin/; done

# commands <document> <group>
commands() { python3 ./document.py "$documents/$1" "$2" | sed -E "$scale"; }
# recipe <document> <group>: runs it in a shell of its own, which ends at the first command that
# fails. What was printed is left in $out.
recipe() {
	local rc=0
	commands "$1" "$2" > /tmp/recipe || rc=$?
	ran+=("$2")
	out=$(bash -eu /tmp/recipe 2>&1) || rc=$?
	[ -s /tmp/recipe ] || rc=1
	result $((rc != 0)) "$1: the commands of '$2' work"
	[ "$rc" -eq 0 ] || diag "status $rc: $out"
}
# all_ran <document> [<group>...]: there was no group but those that have been run (and these),
# and no block of commands in none.
all_ran() {
	is "$1: nothing else is in it" "$(python3 ./document.py "$documents/$1" | sort -u)" \
		"$(printf '%s\n' "${ran[@]}" "${@:2}" | sort -u)"
}
