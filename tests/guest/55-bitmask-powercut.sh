#!/bin/bash
# The machine stops dead in the middle of writes, with the bitmask store.
# boot: --reboot --disk origin=32M --disk store=192M --disk notes=16M
# timeout: 240
# cpus: 2
STORE_TYPE=bitmask
. ./40-powercut.sh
