#!/bin/bash
# Origin and store grow while they are in use, with the bitmask store.
STORE_TYPE=bitmask
. ./27-grow.sh
