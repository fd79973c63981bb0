# SPDX-License-Identifier: GPL-2.0-only
# Each target is a script of its own.  KDIR=<prepared kernel tree> builds for
# another kernel than the newest of the distribution; CLIPPY=1 checks instead.

.PHONY: module lint host-check guest-check check demo bench clean

module:
	@KDIR='$(KDIR)' RUSTC='$(RUSTC)' CLIPPY='$(CLIPPY)' scripts/module

lint:
	@scripts/lint

host-check:
	@scripts/host-check

guest-check: module
	@tests/guest/run $(TESTS)

check:
	@scripts/check

demo: module
	@scripts/demo

bench: module
	@tests/bench/run

clean:
	rm -rf build dm-multisnapshot.ko
