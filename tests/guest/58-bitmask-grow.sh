#!/bin/bash
# Origin and store grow while they are in use, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./27-grow.sh
