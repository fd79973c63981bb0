#!/bin/bash
# Deletion of many snapshots, on a full store, and under load, with the bitmask store.
STORE_TYPE=bitmask
. ./29-sweep.sh
