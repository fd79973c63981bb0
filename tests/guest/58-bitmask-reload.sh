#!/bin/bash
# Tables that do not fit what runs, with the bitmask store.
STORE_TYPE=bitmask
. ./23-reload.sh
