#!/bin/bash
# Metadata that cannot be read, for a moment or for longer, with the bitmask store.
# on request: together these take long.
STORE_TYPE=bitmask
. ./44-unread.sh
