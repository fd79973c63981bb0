# SPDX-License-Identifier: GPL-2.0-only
# Each target is a script of its own.  KDIR=<prepared kernel tree> builds for
# another kernel than the newest of the distribution; CLIPPY=1 checks instead.

.PHONY: module format lint host-check fuzz guest-check check soak demo bench deb clean

module:
	@KDIR='$(KDIR)' RUSTC='$(RUSTC)' CLIPPY='$(CLIPPY)' scripts/module

format:
	@scripts/in-root sh -c 'rustfmt --config-path .rustfmt.toml $$(find src tools tests -name "*.rs" -not -path "*/target/*")'

lint:
	@scripts/lint

host-check:
	@scripts/host-check

fuzz:
	@scripts/fuzz

guest-check:
	@tests/guest/run $(TESTS)

check:
	@scripts/check

soak:
	@scripts/soak

demo: module
	@scripts/demo

bench:
	@tests/bench/run

deb:
	@scripts/deb

clean:
	rm -rf build dm-multisnapshot.ko
