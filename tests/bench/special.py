# SPDX-License-Identifier: GPL-2.0
"""What is not the speed of one load on one device."""

SPECIAL = {}
