# SPDX-License-Identifier: Apache-2.0
#
# Needs Go 1.26, make and git; gcc for the race detector. Modules come through the Go module proxy.
# A line "target: ## text" is what `make` prints.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GO        ?= go
# More flags for go test, e.g. TESTFLAGS='-count=1 -v'; and the packages to test, e.g. PKG=./hfreduce/internal/wait
TESTFLAGS ?=
PKG       ?= ./...
# How long each fuzz target runs
FUZZTIME  ?= 2s
IMAGE     ?= hfreduce:dev

# The commit goes into the program where there is one to read: not in a source archive, and not where git refuses to.
VCS := $(shell git rev-parse -q --verify HEAD >/dev/null 2>&1 && git status --porcelain >/dev/null 2>&1 && echo true || echo false)
BUILDFLAGS := -trimpath -buildvcs=$(VCS)
# Linters are pinned in a module of their own, so that the users' go.sum stays small.
TOOL := $(GO) tool -modfile=.ci/tools/go.mod

.PHONY: help
help: ## print this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

.PHONY: build
build: ## the program: bin/hfreduce (GOOS, GOARCH as you like; CGO_ENABLED=0: static, and without CUDA and RDMA)
	$(GO) build $(BUILDFLAGS) -o bin/hfreduce ./cmd/hfreduce

# The library for C programs. Its name says which of its versions fit together.
SONAME := libhfreduce.so.0
.PHONY: lib
lib: ## the library for C, with its header: bin/lib, bin/include (docs/c-api.md)
	mkdir -p bin/lib bin/include
	CGO_ENABLED=1 $(GO) build $(BUILDFLAGS) -buildmode=c-shared -o bin/lib/$(SONAME) \
		-ldflags "-s -extldflags '-Wl,--version-script=$(CURDIR)/cmd/libhfreduce/libhfreduce.map -Wl,-soname,$(SONAME)'" ./cmd/libhfreduce
	rm -f bin/lib/libhfreduce.so.h
	ln -sf $(SONAME) bin/lib/libhfreduce.so
	cp cmd/libhfreduce/hfreduce.h bin/include/

.PHONY: wheel
wheel: lib ## the Python package with the library: bin/hfreduce-*.whl
	rm -f bin/hfreduce-*.whl
	$${PYTHON:-python3} python/make_wheel.py bin/lib/$(SONAME) bin

PREFIX  ?= /usr/local
DESTDIR ?=
.PHONY: install
install: build lib ## the program, the library, its header and a file for pkg-config, below PREFIX (/usr/local); DESTDIR comes before it
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 bin/hfreduce $(DESTDIR)$(PREFIX)/bin/
	install -m 644 bin/include/hfreduce.h $(DESTDIR)$(PREFIX)/include/
	install -m 755 bin/lib/$(SONAME) $(DESTDIR)$(PREFIX)/lib/
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libhfreduce.so
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: hfreduce' 'Description: allreduce for GPU training nodes' \
		"Version: $$(bin/hfreduce version | sed -n '1{s/^hfreduce v*//; s/^(devel)$$/0/; p}')" 'Libs: -L$${prefix}/lib -lhfreduce' 'Cflags: -I$${prefix}/include' \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/hfreduce.pc

.PHONY: bench
bench: build ## build, then sum 8 B to 64 MiB over 4 ranks on 2 virtual nodes, verified
	bin/hfreduce bench -np 4 --nodes 2 -b 8 -e 64M -f 2

.PHONY: test
test: test-race test-nocgo test-kernels test-fakecuda test-nvml ## all tests: with the race detector, without cgo, of the kernels' generator, of NVML

.PHONY: test-race
test-race: ## all tests with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 12m $(TESTFLAGS) $(PKG)

.PHONY: test-nocgo
test-nocgo: ## all tests with CGO_ENABLED=0, in random order
	CGO_ENABLED=0 $(GO) test -shuffle=on -timeout 12m $(TESTFLAGS) $(PKG)

.PHONY: test-kernels
test-kernels: ## the kernels with each choice of HFREDUCE_KERNEL, and that they are what their generator writes
	for kernel in generic avx2 avx512; do HFREDUCE_KERNEL=$$kernel $(GO) test $(TESTFLAGS) ./hfreduce/internal/kernel/...; done
	cd hfreduce/internal/kernel/_asm && $(GO) vet ./... && $(GO) test $(TESTFLAGS) ./...

# Package cuda/nvml is empty without the tag, and says why. NVIDIA's header calls much of itself deprecated.
NVML := CGO_CFLAGS="$${CGO_CFLAGS--O2 -g} -Wno-deprecated-declarations"

.PHONY: test-nvml
test-nvml: ## package cuda/nvml as programs have it that are built with -tags nvml, against a library made for it (needs gcc)
	$(NVML) CGO_ENABLED=1 $(GO) test -race -tags nvml $(TESTFLAGS) ./cuda/nvml

.PHONY: test-emulated
test-emulated: export GODEBUG = asyncpreemptoff=1 # a signal makes qemu forget MXCSR, which tests change
test-emulated: ## the kernels on arm64 and on x86-64 without AVX-512, without AVX2 (needs qemu-user-static)
	@mkdir -p bin
	GOARCH=arm64 CGO_ENABLED=0 $(GO) test -c -o bin/kernel-arm64.test ./hfreduce/internal/kernel
	GOARCH=amd64 CGO_ENABLED=0 $(GO) test -c -o bin/kernel-amd64.test ./hfreduce/internal/kernel
	cd hfreduce/internal/kernel && qemu-aarch64-static $(CURDIR)/bin/kernel-arm64.test
	cd hfreduce/internal/kernel && for cpu in Haswell Nehalem; do qemu-x86_64-static -cpu $$cpu $(CURDIR)/bin/kernel-amd64.test; done

# How the fake of CUDA is built: as testdata/fakecuda/README.md says, and with sanitizers.
FAKECUDA_CC    = gcc -std=gnu11 -O2 -Wall -Wextra -Werror -pthread
FAKECUDA_KINDS = thread address,undefined

.PHONY: test-fakecuda
test-fakecuda: export TSAN_OPTIONS = atexit_sleep_ms=0 # there are many processes, and it sleeps at the end of each
test-fakecuda: ## the fake of CUDA that tests use: plain, and with gcc's sanitizers
	@mkdir -p bin/fakecuda
	for kind in plain $(FAKECUDA_KINDS); do \
		flags=$$([ $$kind = plain ] || echo "-g -fsanitize=$$kind"); dir=bin/fakecuda/$$kind; mkdir -p $$dir; \
		$(FAKECUDA_CC) $$flags -shared -fPIC -o $$dir/libfakecuda.so testdata/fakecuda/*.c; \
		$(FAKECUDA_CC) $$flags -o $$dir/test testdata/fakecuda/test/*.c $$dir/libfakecuda.so -Wl,-rpath,'$$ORIGIN'; \
		echo "$$kind:"; $$dir/test; \
	done

.PHONY: test-netns
test-netns: ## ranks on hosts that are network namespaces: lost hosts, cut paths, bad networks (root, iproute2)
	HFREDUCE_TEST_NETNS=1 HFREDUCE_TEST_REQUIRE=$${HFREDUCE_TEST_REQUIRE:-netns} $(GO) test -run Netns -parallel 6 -timeout 3m $(TESTFLAGS) ./hfreduce

.PHONY: test-python
test-python: lib ## the Python package, DistributedDataParallel's hook included (Debian: root installs numpy and torch; else PYTHON=...)
	HFREDUCE_TEST_REQUIRE=$${HFREDUCE_TEST_REQUIRE:-python} HFREDUCE_LIBRARY=$(CURDIR)/bin/lib/$(SONAME) \
		PYTHONDONTWRITEBYTECODE=1 testdata/python/with-torch -m unittest discover -s python/tests

.PHONY: test-launchers
test-launchers: ## the program under MPICH's, Open MPI's and Slurm's launchers (Debian, root: it installs them, and starts a Slurm)
	HFREDUCE_TEST_REQUIRE=$${HFREDUCE_TEST_REQUIRE:-launchers} testdata/launchers/with-slurm $(GO) test -run UnderLaunchers -timeout 5m $(TESTFLAGS) ./cmd/hfreduce

# What test-rdma does, one after another (testdata/rdmavm/guest-tests lists what there is), and what joins its ranks.
RDMA_STEPS     ?= rdma.test verbs.test 'hfreduce.test=Verbs|Processes|Killed|NothingLeft|NetnsBadNetwork' \
	sweep=2 sweep=3 sweep=4 sweep=8 kill=4 down=4 loss=2
RDMA_TRANSPORT ?= verbs
# The packages that a step NAME.test may mean; those that are meant are built.
RDMA_PACKAGES  := rdma hfreduce/internal/transport/verbs hfreduce
RDMA_TESTED     = $(foreach p,$(RDMA_PACKAGES),$(if $(findstring $(notdir $(p)).test,$(RDMA_STEPS)),$(p)))

.PHONY: test-rdma
test-rdma: ## hosts with software RDMA devices in a virtual machine (Debian; as root it installs what it needs)
	testdata/rdmavm/vm build
	@mkdir -p bin/rdma
	CGO_ENABLED=1 $(GO) build $(BUILDFLAGS) -o bin/rdma/hfreduce ./cmd/hfreduce
	for p in $(RDMA_TESTED); do CGO_ENABLED=1 $(GO) test -c -o bin/rdma/$${p##*/}.test ./$$p; done
	testdata/rdmavm/vm run -t 600 -m 3072 -e HFREDUCE_TRANSPORT=$(RDMA_TRANSPORT) \
		$(foreach f,guest-tests hosts.sh perftest.sh ranks.sh,-f testdata/rdmavm/$(f):/test/$(f)) \
		-b bin/rdma/hfreduce $(foreach p,$(notdir $(RDMA_TESTED)),-b bin/rdma/$(p).test) \
		-- bash /test/guest-tests $(RDMA_STEPS)

# What test-gpu and bench-gpu run, in a folder that can be taken to a machine without Go (and copied there as it is).
.PHONY: gpu-binaries
gpu-binaries: ## bin/gpu: the program, tests and scripts for a machine with a GPU, which needs no Go
	@mkdir -p bin/gpu
	CGO_ENABLED=1 $(GO) build $(BUILDFLAGS) -ldflags=-s -o bin/gpu/hfreduce ./cmd/hfreduce
	CGO_ENABLED=1 $(GO) build $(BUILDFLAGS) -ldflags=-s -buildmode=c-shared -o bin/gpu/libinprocess.so ./testdata/gpu/inprocess
	for p in cuda hfreduce bench; do CGO_ENABLED=1 $(GO) test -c -trimpath -ldflags=-s -o bin/gpu/$$p.test ./$$p; done
	find testdata/gpu -maxdepth 1 -type f -exec cp {} bin/gpu/ \;

.PHONY: test-gpu
test-gpu: gpu-binaries ## tests on this machine's NVIDIA GPU (elsewhere: bin/gpu/run-tests)
	bin/gpu/run-tests

.PHONY: bench-gpu
bench-gpu: gpu-binaries ## allreduce on this machine's GPUs, beside PyTorch's gloo where it is (elsewhere: bin/gpu/run-bench)
	bin/gpu/run-bench

.PHONY: check-cuda-abi
check-cuda-abi: ## hold cuda/abi.h against CUDA's headers, where there are some (CUDA_HOME, NVCC)
	CC='$(CC)' .ci/cuda-abi

.PHONY: prove-gpu
prove-gpu: gpu-binaries ## on a GPU: a trace of allreduces shows copies and no kernel (elsewhere: bin/gpu/prove; exit 77 without CUDA)
	bin/gpu/prove bin/gpu/hfreduce bin/gpu/libinprocess.so

.PHONY: test-exhaustive
test-exhaustive: ## conversions of every float32 there is (20 min)
	$(GO) test -tags exhaustive -run AllFloat32 -timeout 1h $(TESTFLAGS) ./hfreduce/internal/kernel

.PHONY: fuzz-smoke
fuzz-smoke: ## run every fuzz target for FUZZTIME (2s)
	GO='$(GO)' .ci/fuzz $(FUZZTIME)

.PHONY: smoke
smoke: build ## run the program as a user would: every type and operator, uneven nodes, SIGKILL
	.ci/smoke bin/hfreduce

.PHONY: lint
lint: vet staticcheck rules ## all linters

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...
	$(NVML) $(GO) vet -tags nvml ./cuda/nvml

.PHONY: staticcheck
staticcheck: ## staticcheck, as pinned in .ci/tools
	$(TOOL) staticcheck ./...
	$(NVML) $(TOOL) staticcheck -tags nvml ./cuda/nvml

.PHONY: rules
rules: ## the rules of this repository: imports, documentation, budgets (internal/lint)
	$(GO) test -count=1 ./internal/lint

.PHONY: fmt
fmt: ## format the Go files
	gofmt -s -w .

.PHONY: fmt-check
fmt-check: ## fail if a Go file is not formatted
	@bad=$$(gofmt -s -l .); if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; fi

.PHONY: tidy-check
tidy-check: ## fail if go.mod or go.sum is not tidy
	$(GO) mod tidy -diff
	$(GO) mod verify
	cd .ci/tools && $(GO) mod verify
	cd hfreduce/internal/kernel/_asm && $(GO) mod tidy -diff && $(GO) mod verify

.PHONY: cross
cross: ## build and vet for linux/arm64
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...

.PHONY: generate
generate: ## write generated files anew
	$(GO) generate ./...

.PHONY: docker
docker: ## build the container image IMAGE (hfreduce:dev)
	docker build -t $(IMAGE) .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
