#!/bin/bash
# Reads, copies and writes of one chunk at the same time, with the bitmask store.
# cpus: 2
# on request: together these take long.
STORE_TYPE=bitmask
. ./15-race.sh
