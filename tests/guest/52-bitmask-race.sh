#!/bin/bash
# Reads, copies and writes of one chunk at the same time, with the bitmask store.
# cpus: 2
STORE_TYPE=bitmask
. ./15-race.sh
