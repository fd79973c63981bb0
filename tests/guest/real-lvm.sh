# Sourced after lib.sh by the scripts that use a real LVM, on null_blk devices and without udev.
# shellcheck shell=bash

export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p $LVM_SYSTEM_DIR /run/lock/lvm
cat > $LVM_SYSTEM_DIR/lvm.conf <<'END'
devices { types = [ "nullb", 16 ] use_devicesfile = 0 obtain_device_list_from_udev = 0 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
backup { backup_dir = "/tmp/lvm/backup" archive = 0 }
global { use_lvmpolld = 0 }
END
