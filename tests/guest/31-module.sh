#!/bin/bash
# The module itself: what it says of itself, how it comes and goes.
. ./lib.sh
plan 25

module=dm-multisnapshot name=dm_multisnapshot
for field in author description version; do
	like "modinfo has the $field" "$(modinfo -F $field $module)" .
done
is "and the license" "$(modinfo -F license $module)" GPL
like "and the snapshots' alias" "$(modinfo -F alias $module)" "dm-multisnap-snap"
loaded() { [ -d /sys/module/$name ]; }
in_use() { cat /sys/module/$name/refcnt; }
# left: what of ours the kernel still has.
left() {
	dmsetup targets | grep multisnap
	grep -E "$name|multisnap" /proc/modules /proc/slabinfo
	pgrep -l multisnap
	find /sys/kernel/slab /sys/kernel/debug /sys/bus/workqueue -iname '*multisnap*' 2> /dev/null
	grep -m 3 "\[$name\]" /proc/kallsyms
}
ok "it is not loaded yet" eval '! loaded'
is "and nothing of it is there" "$(left)" ""
# Threads of the kernel, other than those it makes and ends as it needs them.
threads() { pgrep -lP 2 | grep -vcE 'kworker/[0-9u]'; }
make_nullblk o 16
make_nullblk s 32
modprobe $module
rmmod $module
threads=$(threads)

ok "a table of an origin loads it" make_ms ms /dev/o /dev/s
ok "as can be seen" loaded
like "with both targets" "$(dmsetup targets | xargs)" "multisnap-snap +v.*multisnapshot +v"
is "and is a use of it" "$(in_use)" 1
ok "it cannot be unloaded then" eval '! rmmod $module'
take_snapshot ms > /dev/null
make_snap snap /dev/o 1
is "a snapshot is another use" "$(in_use)" 2
write_pattern /dev/mapper/ms 0 64 1
write_pattern /dev/mapper/snap 0 64 2
ok "removing the origin" dmsetup remove ms
ok "leaves a use" eval '! rmmod $module'
dmsetup remove snap
is "removing the snapshot does not" "$(in_use)" 0
ok "then it can be unloaded" rmmod $module
is "and leaves nothing behind" "$(left)" ""
ok "nor a thread" within 5 eval "[ \"\$(threads)\" -le $threads ]"

fails_with "a table of a snapshot loads it, too" ENODEV make_snap snap /dev/o 1
ok "as can be seen" loaded
is "and a failed table is no use" "$(in_use)" 0
rc=0
for _ in 1 2 3 4 5; do
	modprobe -r $module && modprobe $module && make_ms ms /dev/o /dev/s && dmsetup remove ms || rc=1
done
is "it comes and goes" $rc 0
rmmod $module
is "with nothing left" "$(left)" ""
is "and no complaint" "$(dmesg | grep -ciE 'objects remaining|still has|leaked|refcount')" 0
cleanup
