#!/bin/bash
# The torture of the other store.  BITMASK_SEEDS is for this one alone.
# cpus: 2
TYPE=bitmask
TORTURE_SEEDS=${BITMASK_SEEDS:-${TORTURE_SEEDS:-1 2}}
. ./37-torture.sh
