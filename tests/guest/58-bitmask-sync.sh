#!/bin/bash
# The snapshots become those of a list, with the bitmask store.
STORE_TYPE=bitmask
. ./29-sync.sh
