#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Puts into an initramfs with systemd what starts the origins whose files say "initramfs = yes" or "root".

multisnap_files() {
	grep -lEs '^[[:space:]]*initramfs[[:space:]]*=[[:space:]]*(yes|root)[[:space:]]*$' \
		"${dracutsysrootdir-}"/etc/multisnap/*.conf
}

check() {
	require_binaries multisnap || return 1
	[ -n "$(multisnap_files)" ]
}

depends() {
	echo dm systemd
}

installkernel() {
	hostonly='' instmods dm-mod dm-multisnapshot
}

install() {
	local file
	inst_binary /usr/sbin/multisnap
	for file in $(multisnap_files); do
		inst_simple "${file#"${dracutsysrootdir-}"}"
	done
	inst_rules 57-multisnap-dm.rules 63-multisnap.rules
	# shellcheck disable=SC2154
	inst_simple "$systemdsystemunitdir/multisnap@.service"
}
