#!/bin/bash
# Read-only loads, suspends without flush and removals while all is busy, with the bitmask store.
# cpus: 2
# on request: it takes long.
STORE_TYPE=bitmask
. ./33-busy.sh
