// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A kernel that reads past the end of a buffer, or before it, harms only where the next page is not mapped. The buffers of
// these tests end where such a page starts, or start where one ends.

// fence is memory between two pages that cannot be touched.
type fence struct {
	mem  []byte
	page int
}

func newFence(t *testing.T, size int) fence {
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	all, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(all); err != nil {
			t.Errorf("munmap: %v", err)
		}
	})
	for _, edge := range [][]byte{all[:page], all[page+size:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatalf("mprotect: %v", err)
		}
	}
	return fence{all[page : page+size], page}
}

// last and first return the buffer of size bytes next to one of the two pages.
func (f fence) last(size int) []byte  { return f.mem[len(f.mem)-size:] }
func (f fence) first(size int) []byte { return f.mem[:size:size] }

// distance says where addr lies if that is in one of the two pages.
func (f fence) distance(addr uintptr) (string, bool) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(f.mem)))
	end := start + uintptr(len(f.mem))
	switch {
	case addr >= end && addr < end+uintptr(f.page):
		return fmt.Sprintf("%d bytes past the end", addr-end), true
	case addr < start && addr >= start-uintptr(f.page):
		return fmt.Sprintf("%d bytes before the start", start-addr), true
	}
	return "", false
}

const (
	fencedSources = 10
	fencedMax     = 2100 // elements
)

// fences hold the buffers of one call: the sources, then dst and dst2.
type fences struct {
	all  [fencedSources + 2]fence
	pool []byte // contents for sources
}

func newFences(t *testing.T) *fences {
	f := new(fences)
	for k := range f.all {
		f.all[k] = newFence(t, fencedMax*8)
	}
	f.pool = fill(rand.New(rand.NewPCG(1, 2)), Uint64, 2*fencedMax, 0)
	return f
}

// The ways to place the buffers of one call.
const (
	atEnds = iota
	atStarts
	atBoth // every other one at its end
	placements
)

// place returns buffer k with room for size bytes.
func (f *fences) place(k, placement, size int) []byte {
	if placement == atEnds || placement == atBoth && k%2 == 0 {
		return f.all[k].last(size)
	}
	return f.all[k].first(size)
}

// run carries out one call on b and compares its result with that of the generic backend on ordinary memory.
func (f *fences) run(b Backend, s Spec, n, count, placement int, second bool, scales []float64) error {
	var srcs, plain [][]byte
	for j := range n {
		size := count * sourceType(s, j, n).Size()
		from := f.pool[(j*1234+count*8)%(len(f.pool)/2):][:size]
		srcs = append(srcs, f.place(j, placement, size))
		plain = append(plain, from)
		copy(srcs[j], from)
	}
	size := count * outputType(s).Size()
	want := make([]byte, size)
	s.ReduceOn(Generic, want, nil, plain, scales)

	dst := f.place(fencedSources, placement, size)
	outs := [][]byte{dst}
	var dst2 []byte
	if second {
		dst2 = f.place(fencedSources+1, placement, size)
		outs = append(outs, dst2)
	}
	for _, out := range outs {
		copy(out, bytes.Repeat([]byte{unwritten}, size))
	}
	if err := f.guard(func() { s.ReduceOn(b, dst, dst2, srcs, scales) }); err != nil {
		return err
	}
	for k, out := range outs {
		if i := differs(outputType(s), out, want); i >= 0 {
			return fmt.Errorf("element %d of output %d is %#x, want %#x", i, k, element(outputType(s), out, i), element(outputType(s), want, i))
		}
	}
	return nil
}

// guard calls reduce and returns an error that names the buffer if that touches a page beside one.
func (f *fences) guard(reduce func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		caught := recover()
		fault, ok := caught.(interface{ Addr() uintptr })
		switch {
		case caught == nil:
			return
		case !ok:
			panic(caught)
		}
		err = fmt.Errorf("fault at %#x, beside no buffer (an aligned access to a misaligned address reports 0)", fault.Addr())
		for k := range f.all {
			if where, ok := f.all[k].distance(fault.Addr()); ok {
				err = fmt.Errorf("fault %s of %s", where, bufferName(k))
			}
		}
	}()
	reduce()
	return nil
}

func bufferName(k int) string {
	switch k {
	case fencedSources:
		return "dst"
	case fencedSources + 1:
		return "dst2"
	}
	return fmt.Sprintf("source %d", k)
}

// fencedCounts returns every count up to 70, some up to 200 and those around the ends of long loops.
func fencedCounts() []int {
	var all []int
	for count := range 201 {
		if count <= 70 || count%7 == 0 || (count+1)%64 <= 2 {
			all = append(all, count)
		}
	}
	return append(all, 255, 256, 257, 319, 383, 449, 511, 512, 513, 577, 769, 1023, 1025, 1090, 1537, 2047, 2049, 2050)
}

// TestReduceStaysWithinItsBuffers draws what does not decide where a kernel reads or writes.
func TestReduceStaysWithinItsBuffers(t *testing.T) {
	f := newFences(t)
	eachSpec(t, func(t *testing.T, b Backend, s Spec) {
		random := rand.New(rand.NewPCG(uint64(s.DType), uint64(s.Op)))
		for _, n := range []int{1, 2, 3, 5, 8, 10} {
			for i, count := range fencedCounts() {
				if raceEnabled && (i+n)%raceShare != 0 {
					continue
				}
				for placement := range placements {
					s := variant(s, n, random.IntN(variants))
					if s.Op == Sum {
						s.Divisor = divisors[random.IntN(6)]
					}
					var scales []float64
					if random.IntN(4) == 0 {
						scales = scaleValues[:n]
					}
					second := random.IntN(2) == 0
					if err := f.run(b, s, n, count, placement, second, scales); err != nil {
						t.Fatalf("%+v, %d sources, %d elements, placement %d, second output %v, scaled %v: %v",
							s, n, count, placement, second, scales != nil, err)
					}
				}
			}
		}
	})
}

// TestFencesCatch holds the fences against code that reads and writes where it should not.
func TestFencesCatch(t *testing.T) {
	f := newFences(t)
	for _, c := range []struct {
		touch func()
		want  string
	}{
		{func() { copy(unsafe.Slice(unsafe.SliceData(f.place(3, atEnds, 5)), 6), make([]byte, 6)) }, "fault 0 bytes past the end of source 3"},
		{func() { *(*byte)(unsafe.Add(unsafe.Pointer(&f.place(11, atStarts, 8)[0]), -3)) = 1 }, "fault 3 bytes before the start of dst2"},
		{func() {}, "<nil>"},
	} {
		if got := fmt.Sprint(f.guard(c.touch)); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
