#!/bin/bash
# A store whose device goes away and comes back, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./24-failing-store.sh
