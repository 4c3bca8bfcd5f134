# `make demo` and `make test` work on a fresh Debian 12 with cargo and root: each installs what it needs.

PLUGIN_TARGET := x86_64-unknown-linux-musl
ifeq ($(shell uname -m),aarch64)
PLUGIN_TARGET := aarch64-unknown-linux-musl
endif
# What `podplumb-cni` is, by the name that it is called by.
PLUGINS := bandwidth bridge dhcp dummy firewall flannel host-device host-local ipvlan loopback macvlan portmap ptp sbr static \
	tap tuning vlan vrf
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test shipped vm bench fuzz build plugin

demo: build
	@xtask/install demo
	@BIN=$(abspath $(TARGET))/demo examples/demo.sh

# Everything: units, the plugins against the reference ones, real containerd and Docker.
test: plugin
	@xtask/install test
	cargo test --workspace --no-fail-fast

# What tests run is not optimised. What is shipped has to do the same.
shipped: build
	@xtask/install test
	PODPLUMB_BIN_DIR=$(abspath $(TARGET))/demo cargo test -p podplumb-tests --no-fail-fast --test scenarios --test doctor --test trace

# The tests that need a kernel with everything, in a machine with Debian's.
vm:
	@xtask/install test
	@xtask/install vm
	tests/vm/run

# Each fuzz target for a minute, from its corpus.
FUZZ_SECONDS := 60
fuzz:
	@xtask/install fuzz
	fuzz/run $(FUZZ_SECONDS)

bench: build
	@xtask/install test
	@xtask/install bench
	PODPLUMB_BIN_DIR=$(abspath $(TARGET))/demo cargo run --release -p podplumb-benches

# One file that needs no library of the system's and has no relocations to work through: it starts half a millisecond earlier.
build: plugin
	cargo rustc --release -p podplumb --bin podplumb -- -C target-feature=+crt-static -C relocation-model=static
	@mkdir -p $(TARGET)/demo
	@cp $(TARGET)/release/podplumb $(TARGET)/demo/

# One static binary, linked to the names of the plugins that it is.
plugin:
	@xtask/install build
	cargo build --profile plugin --target $(PLUGIN_TARGET) -p podplumb-cni
	@mkdir -p $(TARGET)/demo
	@cp $(TARGET)/$(PLUGIN_TARGET)/plugin/podplumb-cni $(TARGET)/demo/podplumb-cni
	@for name in $(PLUGINS); do ln -sf podplumb-cni $(TARGET)/demo/$$name; done
