// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

const (
	none = -2 // no second output
	own  = -1 // an output with memory of its own
)

// reduction is one call of Reduce to be checked: its data, and where every buffer stands.
type reduction struct {
	spec      Spec
	count     int      // elements
	srcs      [][]byte // contents
	scales    []float64
	dst, dst2 int   // own, none or the index of the source it shares its memory with
	offsets   []int // bytes past an aligned address: of the sources, then of dst and dst2
}

// guarded is a buffer between guard bytes.
type guarded struct{ all, buf []byte }

const guardBytes, guardByte = 64, 0xa5

func newGuarded(content []byte, offset int) guarded {
	all := bytes.Repeat([]byte{guardByte}, guardBytes+offset+len(content)+guardBytes)
	g := guarded{all, all[guardBytes+offset:][:len(content):len(content)]}
	copy(g.buf, content)
	return g
}

func (g guarded) intact() bool {
	edge := len(g.all) - guardBytes
	before := len(g.all) - guardBytes - len(g.buf)
	return bytes.Count(g.all[:before], []byte{guardByte}) == before && bytes.Count(g.all[edge:], []byte{guardByte}) == guardBytes
}

// check runs r on a backend and compares everything it may and may not touch.
func (r reduction) check(b backend) error {
	n, size := len(r.srcs), r.count*r.spec.DType.Size()
	var all []guarded
	var srcs [][]byte
	for j, src := range r.srcs {
		all = append(all, newGuarded(src, r.offsets[j]))
		srcs = append(srcs, all[j].buf)
	}
	output := func(alias, offset int) []byte {
		switch alias {
		case none:
			return nil
		case own:
			all = append(all, newGuarded(bytes.Repeat([]byte{0xee}, size), offset))
			return all[len(all)-1].buf
		}
		return srcs[alias]
	}
	dst, dst2 := output(r.dst, r.offsets[n]), output(r.dst2, r.offsets[n+1])
	scales := append([]float64(nil), r.scales...)

	r.spec.reduceWith(b, dst, dst2, srcs, r.scales)

	for k, g := range all {
		if !g.intact() {
			return fmt.Errorf("bytes around buffer %d changed", k)
		}
	}
	for j := range srcs {
		if j != r.dst && j != r.dst2 && !bytes.Equal(srcs[j], r.srcs[j]) {
			return fmt.Errorf("source %d changed", j)
		}
	}
	for j := range scales {
		if math.Float64bits(scales[j]) != math.Float64bits(r.scales[j]) {
			return fmt.Errorf("scale %d changed", j)
		}
	}
	return r.compare(dst, dst2)
}

// compare holds the outputs against the reference.
func (r reduction) compare(dst, dst2 []byte) error {
	t := r.spec.DType
	bits := make([]uint64, len(r.srcs))
	for i := range r.count {
		for j, src := range r.srcs {
			bits[j] = element(t, src, i)
		}
		want := refElement(r.spec, bits, r.scales)
		if got := element(t, dst, i); !sameElement(t, got, want) {
			return fmt.Errorf("element %d of %#x scaled by %v is %#x, want %#x", i, bits, r.scales, got, want)
		}
	}
	if r.dst2 != none && !bytes.Equal(dst, dst2) {
		return fmt.Errorf("second output differs from the first")
	}
	return nil
}

// fill writes count random elements. mode 0 draws all bits; 1 numbers of about one size, so that sums round and tie and
// products neither vanish nor overflow; 2 extreme values; 3 any of these.
func fill(r *rand.Rand, t DType, count, mode int) []byte {
	var out []byte
	for range count {
		m := mode
		if m == 3 {
			m = r.IntN(3)
		}
		v := r.Uint64()
		f, float := formats[t]
		switch {
		case m == 1 && float:
			e := uint64(f.bias() - 2 + r.IntN(5))
			v = v&1<<(f.expBits+f.manBits) | e<<f.manBits | v>>1&(1<<f.manBits-1)
		case m == 1:
			v = uint64(r.IntN(64) - 32)
		case m == 2 && float:
			edge := []uint64{0, 1, 1<<f.manBits - 1, 1 << f.manBits, 1<<(f.expBits+f.manBits) - 1<<f.manBits, 1<<(f.expBits+f.manBits) - 1}
			v = v&1<<(f.expBits+f.manBits) | (edge[r.IntN(len(edge))]+uint64(r.IntN(3)-1))&(1<<(f.expBits+f.manBits)-1)
		case m == 2:
			w := 8*t.Size() - 1
			v = []uint64{0, 1, 1<<w - 1, 1 << w, math.MaxUint64}[r.IntN(5)]
		}
		out = binary.NativeEndian.AppendUint64(out, v)[:len(out)+t.Size()] // the low bytes come first on both our machines
	}
	return out
}
