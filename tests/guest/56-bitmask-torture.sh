#!/bin/bash
# The torture of the other store.
# cpus: 2
TYPE=bitmask
TORTURE_SEEDS=${TORTURE_SEEDS:-1}
. ./37-torture.sh
