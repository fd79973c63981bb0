#!/bin/bash
# Limits that a table sets, with the bitmask store.
# timeout: 600
# on request: it takes long.
STORE_TYPE=bitmask
. ./28-limits.sh
