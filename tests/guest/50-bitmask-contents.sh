#!/bin/bash
# Contents and costs with the bitmask store.
STORE_TYPE=bitmask
. ./10-contents.sh
