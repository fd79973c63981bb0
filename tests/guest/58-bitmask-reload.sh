#!/bin/bash
# Tables that do not fit what runs, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./23-reload.sh
