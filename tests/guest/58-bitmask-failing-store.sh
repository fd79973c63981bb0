#!/bin/bash
# A store whose device goes away and comes back, with the bitmask store.
STORE_TYPE=bitmask
. ./24-failing-store.sh
