#!/bin/bash
# Deletion of many snapshots, on a full store, and under load, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./29-sweep.sh
