#!/bin/bash
# Discards and writes of zeroes, with the bitmask store.
# boot: --disk zo=32M,discard=unmap --disk zs=64M,discard=unmap
# on request: it takes long.
STORE_TYPE=bitmask
. ./26-discard.sh
