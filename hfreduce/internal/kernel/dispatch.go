// SPDX-License-Identifier: Apache-2.0

package kernel

// backend is one implementation of the reductions. They are called through a switch and not through a function value: the
// compiler then sees that no slice escapes, and callers can build their list of sources on the stack.
type backend uint8

const (
	backendGeneric backend = iota // portable Go, the reference for all others
)

// backendNames holds the backends' names, by number. Read only.
var backendNames = [...]string{backendGeneric: "generic"}

func (b backend) String() string { return backendNames[b] }

// available reports whether this machine can run b.
func (b backend) available() bool { return b == backendGeneric }

// reduce runs b. The arguments have passed Spec.check and there is at least one element.
func (b backend) reduce(s Spec, dst, dst2 []byte, srcs [][]byte, scales []float64) {
	switch b {
	case backendGeneric:
		reduceGeneric(s, dst, dst2, srcs, scales)
	}
}

// selected returns the backend that Reduce uses.
func selected() backend { return backendGeneric }

// Backend returns the name of the implementation that Reduce uses on this machine: "generic" is portable Go.
func Backend() string { return selected().String() }
