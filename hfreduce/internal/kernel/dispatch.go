// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"strings"
)

// Backend is one implementation of the reductions. All give the same bits.
type Backend uint8

// The backends, from the one that runs anywhere to the fastest.
const (
	Generic Backend = iota // portable Go, the reference for all others
	AVX2                   // x86-64 with AVX2, FMA and F16C
	AVX512                 // x86-64 with AVX-512 F, BW, DQ and VL; float8 needs VBMI, too, and falls back to AVX2
)

// backendNames holds the backends' names, by number. Read only.
var backendNames = [...]string{Generic: "generic", AVX2: "avx2", AVX512: "avx512"}

// String returns the name by which HFREDUCE_KERNEL selects the backend.
func (b Backend) String() string {
	if int(b) >= len(backendNames) {
		return fmt.Sprintf("Backend(%d)", uint8(b))
	}
	return backendNames[b]
}

// Backends returns what this machine can run, the fastest last.
func Backends() []Backend {
	var all []Backend
	for b := range Backend(len(backendNames)) {
		if b.Available() {
			all = append(all, b)
		}
	}
	return all
}

// Environment names the environment variable that overrides the choice of the backend.
const Environment = "HFREDUCE_KERNEL"

// selected is the backend of Spec.Reduce, errSelected what is wrong with the choice in the environment. They are set once,
// before anything runs, so that calls need no lock.
var selected, errSelected = choose(os.Getenv(Environment))

// choose returns the backend that name, the value of Environment, asks for, or the fastest one if it is empty. If that one
// cannot be had, it returns the fastest one and an error.
func choose(name string) (Backend, error) {
	all := Backends()
	best := all[len(all)-1]
	if name == "" {
		return best, nil
	}
	for i, known := range backendNames {
		switch {
		case known != name:
		case !Backend(i).Available():
			return best, fmt.Errorf("kernel: %s=%s, but this machine cannot run it: use %s, or unset it", Environment, name, list(all))
		default:
			return Backend(i), nil
		}
	}
	return best, fmt.Errorf("kernel: %s=%q is not known: use %s, or unset it", Environment, name, list(all))
}

func list(all []Backend) string {
	var names []string
	for _, b := range all {
		names = append(names, b.String())
	}
	return strings.Join(names, ", ")
}

// Selected returns the backend that Spec.Reduce uses in this process, and an error if Environment asks for one that this
// machine cannot run or that does not exist; then it is the fastest one.
func Selected() (Backend, error) { return selected, errSelected }

// reduce runs b. The arguments have passed Spec.check and there is at least one element. This is a switch, and not a table
// of function values, so that the compiler sees that no slice escapes: callers can build their list of sources on the stack.
func (b Backend) reduce(s *Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	if b == Generic || !reduceSIMD(b, s, dst, dst2, srcs, scales) {
		reduceGeneric(*s, dst, dst2, srcs, scales)
	}
}
