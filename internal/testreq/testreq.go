// SPDX-License-Identifier: Apache-2.0

// Package testreq is the one way for a test to skip itself: because the machine lacks a feature, and never on a machine
// that was declared to have it.
//
// HFREDUCE_TEST_REQUIRE names the features (comma separated, or "all") that a test run must find; a test that misses
// one of them fails instead of skipping. So a run on the machine with the right hardware cannot pass by skipping what
// it was meant to test.
package testreq

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// Variable is the environment variable that turns skips into failures.
const Variable = "HFREDUCE_TEST_REQUIRE"

// all is the value of Variable that stands for every feature.
const all = "all"

// Features returns the features that a test may miss, by name, with what each needs. A new kind of skip starts with a
// row here.
func Features() map[string]string {
	return map[string]string{
		"avx2":      "a CPU with AVX2 and FMA",
		"avx512":    "a CPU with AVX-512 F, BW, VL and DQ",
		"clsbpf":    "the kernel's packet classifier of BPF programs (cls_bpf) and tc",
		"cores":     "as many CPU cores as the test says",
		"cuda":      "an NVIDIA GPU and its driver",
		"fakecuda":  "the fake CUDA library, which fails on demand (without HFREDUCE_TEST_CUDA=real)",
		"gpus":      "as many GPUs as the test says",
		"ipv6":      "an IPv6 loopback address",
		"launchers": "mpiexec.mpich, mpirun.openmpi, and srun with a Slurm that is up (make test-launchers)",
		"memops":    "stream memory operations of the GPU's driver",
		"memory":    "as much free memory as the test says",
		"netem":     "the kernel's network emulator (sch_netem) and tc",
		"netns":     "the right to make network namespaces (root) and iproute2, and HFREDUCE_TEST_NETNS=1 (make test-netns)",
		"numa":      "a kernel with NUMA memory policies, and CAP_SYS_NICE in a container",
		"python":    "numpy and torch (make test-python)",
		"rdmabed":   "the virtual machine of testdata/rdmavm (make test-rdma)",
		"tools":     "the program that the test says, on the PATH",
		"verbs":     "an RDMA device and libibverbs",
	}
}

// Missing ends the test because feature is not there: as skipped, or as failed if Variable requires the feature. why
// says what was looked for and what was found. A feature that [Features] does not list, here or in Variable, fails the
// test: a misspelt name would require nothing.
func Missing(t testing.TB, feature, why string) {
	t.Helper()
	required, err := required(os.Getenv(Variable), feature)
	switch {
	case err != nil:
		t.Fatalf("testreq: %v", err)
	case required:
		t.Fatalf("%s=%s requires %q, but: %s", Variable, os.Getenv(Variable), feature, why)
	default:
		t.Skipf("needs %q (%s): %s", feature, Features()[feature], why)
	}
}

// required reports whether the value of Variable names feature.
func required(value, feature string) (bool, error) {
	known := Features()
	if _, ok := known[feature]; !ok {
		return false, fmt.Errorf("unknown feature %q: add it to testreq.Features", feature)
	}
	found := false
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if _, ok := known[name]; !ok && name != "" && name != all {
			return false, fmt.Errorf("%s=%s: unknown feature %q; known are %s and %s",
				Variable, value, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "), all)
		}
		found = found || name == feature || name == all
	}
	return found, nil
}
