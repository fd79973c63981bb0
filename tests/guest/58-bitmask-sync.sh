#!/bin/bash
# The snapshots become those of a list, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./29-sync.sh
