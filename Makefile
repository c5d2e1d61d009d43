# The one door to the project: `make help`.
# Every target can be run on a clean clone; what is missing from Debian is installed by Scripts/dependencies.sh.

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: help dependencies host image checked-image check-locks build run test unit models conformance conformance-files attacks torture fuzz soak bench lint format coverage clean

# Product flags: a fully static executable starts about a millisecond earlier than one that loads libstdc++. It is position
# independent, so that an attacker does not know where the monitor's code lies: 0.1 ms for 39,000 relocations. Such a program may have no rpath.
HOST_FLAGS := -c release --explicit-target-dependency-import-check error --static-swift-stdlib -Xswiftc -static-executable \
  -Xswiftc -use-ld=lld -Xswiftc -Xclang-linker -Xswiftc -static-pie --disable-local-rpath
IMAGE_FLAGS := -c release --explicit-target-dependency-import-check error --triple x86_64-unknown-none-elf --toolset kernel.toolset.json --scratch-path .build-kernel
CHECKED_FLAGS := $(IMAGE_FLAGS:.build-kernel=.build-checked)

help: ## Show what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dependencies: ## Install what is missing from Debian (quiet when nothing is)
	@Scripts/dependencies.sh

host: dependencies
	@mkdir -p build
	@Scripts/quietly.sh build/host.log swift build $(HOST_FLAGS) --product apus
	@cp -f "$$(swift build $(HOST_FLAGS) --show-bin-path)/apus" build/apus
	@Scripts/stamp.sh build/apus

# The archive is made anew: SwiftPM adds members to it and leaves those of deleted files behind.
image: dependencies
	@mkdir -p build
	@rm -f .build-kernel/*/release/libKernelImage.a
	@Scripts/quietly.sh build/image.log swift build $(IMAGE_FLAGS) --product KernelImage
	@Scripts/link-kernel.sh "$$(swift build $(IMAGE_FLAGS) --show-bin-path)/libKernelImage.a" build/kernel.elf

# With the checks of LockOrder.swift, and a scratch directory of its own.
checked-image: dependencies ## Build build/checked/kernel.elf, which stops at a lock out of order and at a wait under a spin lock
	@mkdir -p build/checked
	@rm -f .build-checked/*/release/libKernelImage.a
	@LOCK_ORDER=1 Scripts/quietly.sh build/checked/image.log swift build $(CHECKED_FLAGS) --product KernelImage
	@Scripts/link-kernel.sh "$$(LOCK_ORDER=1 swift build $(CHECKED_FLAGS) --show-bin-path)/libKernelImage.a" build/checked/kernel.elf

check-locks: host checked-image ## Conformance programs with the checked image (ONLY="name …" CPUS="1 2 4" SMALL=1)
	@KERNEL=build/checked/kernel.elf Scripts/conformance.sh $(ONLY)

build: host image ## Build build/apus and build/kernel.elf

run: build ## Boot Apus and run the demonstration script on it
	@cksum /etc/motd /etc/passwd >build/host-before 2>&1; true
	@build/apus run --statistics --user 0:0 --bind "$(CURDIR)/Scripts:/mnt:ro" -- busybox sh /mnt/demo.sh
	@cksum /etc/motd /etc/passwd 2>&1 | cmp build/host-before -
	@echo && echo "On the host /etc/motd and /etc/passwd are as they were:" && cat build/host-before

test: ## Everything that CI checks; ends with `N passed, M failed, K skipped`
	@Scripts/test.sh all

unit: ## Unit tests on the host
	@Scripts/test.sh unit

models: dependencies ## Structures of memory against models, over a million random steps each (STEPS=…)
	@mkdir -p build
	@Scripts/models.sh

conformance: build ## Conformance programs, natively and in Apus (ONLY="name …" CPUS="1 2 4" SMALL=1: in 16 MiB)
	@Scripts/conformance.sh $(ONLY)

attacks: build ## Attack the isolation from inside sandboxes: Tests/Attacks (ONLY="name …")
	@Scripts/attacks.sh $(ONLY)

torture: build ## Failing allocations, objects without end, hostile numbers, long calls: Tests/Attacks
	@Scripts/attacks.sh memory_ numbers_ hang_ panic_

fuzz: build ## Random system calls and files inside sandboxes: Tests/Fuzz (SECONDS=… SEED=… JOBS=… ONLY="name …")
	@SECONDS_EACH=$(SECONDS) SEED=$(SEED) JOBS=$(JOBS) Scripts/fuzz.sh $(ONLY)

soak: build ## Ordinary programs for a long time in sandboxes beside a busy host: none is killed (MINUTES=5 BOXES=4 LOAD=4)
	@MINUTES=$(MINUTES) BOXES=$(BOXES) LOAD=$(LOAD) Scripts/soak.sh

conformance-files: build ## Conformance programs about files on every kind of directory (ONLY= KINDS="bind root" IDENTITIES="root user host-user")
	@Scripts/conformance-files.sh $(ONLY)

bench: build ## Measure natively and in Apus; write the tables of Documentation/performance.md
	@Scripts/bench.sh

lint: ## Format, undeclared imports, unsafe code outside its rooms, paths of this machine
	@Scripts/lint.sh

format: ## Format all Swift sources in place
	@swift format -i -r Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/*/*.swift

coverage: ## Regenerate Documentation/coverage.md from the system-call table
	@Scripts/coverage.sh

clean: ## Remove everything that was built
	@rm -rf build .build .build-kernel
