// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
)

// call is a case with its buffers.
type call struct {
	subject
	spec      kernel.Spec
	dst, dst2 []byte
	srcs      [][]byte
	scales    []float64
	reduce    func(s kernel.Spec, b kernel.Backend, dst, dst2 []byte, srcs [][]byte, scales []float64)
}

// newCall finds the buffers of a case in the arena.
func newCall(s subject, a *arena, outputsAt int64, h *hooks) *call {
	l := s.shape().layout(outputsAt)
	c := &call{subject: s, spec: s.spec(), dst: a.at(l.outputs[0]), srcs: a.all(l.sources), scales: s.scales(), reduce: h.reduce}
	if len(l.outputs) > 1 {
		c.dst2 = a.at(l.outputs[1])
	}
	return c
}

// run makes the call several times.
func (c *call) run(times int) {
	for range times {
		c.reduce(c.spec, c.backend, c.dst, c.dst2, c.srcs, c.scales)
	}
}

// verifier compares kernels with the portable ones.
type verifier struct {
	seed  maphash.Seed
	right map[subject]uint64 // digests of the portable kernels' results, by the case's work
}

func newVerifier() *verifier {
	return &verifier{seed: maphash.MakeSeed(), right: map[subject]uint64{}}
}

// verify returns an error if the result of a case is not that of the portable kernels.
func (v *verifier) verify(c *call) error {
	right, known := v.right[c.work()]
	if !known {
		c.runGeneric()
		right = maphash.Bytes(v.seed, c.dst)
		v.right[c.work()] = right
	}
	clear(c.dst) // so that nothing is right that was not written
	clear(c.dst2)
	c.run(1)
	if maphash.Bytes(v.seed, c.dst) != right {
		return c.difference("output", c.dst)
	}
	if c.dst2 != nil && maphash.Bytes(v.seed, c.dst2) != right {
		return c.difference("second output", c.dst2)
	}
	return nil
}

// runGeneric makes the call on the portable kernels.
func (c *call) runGeneric() {
	spec := c.spec
	spec.StreamDst, spec.StreamDst2 = false, false
	spec.ReduceOn(kernel.Generic, c.dst, c.dst2, c.srcs, c.scales)
}

// difference finds the first wrong element of an output.
func (c *call) difference(what string, wrong []byte) error {
	got, width := bytes.Clone(wrong), len(wrong)/(len(c.srcs[0])/c.dtype.Size())
	c.runGeneric()
	for at := 0; at < len(got); at += width {
		if want := wrong[at : at+width]; !bytes.Equal(got[at:at+width], want) {
			return fmt.Errorf("%s: element %d of the %s has the bytes %x, the portable kernels give %x", c.subject, at/width, what, got[at:at+width], want)
		}
	}
	return fmt.Errorf("%s: the %s is wrong in some runs and not in others", c.subject, what)
}
