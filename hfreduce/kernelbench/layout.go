// SPDX-License-Identifier: Apache-2.0

package kernelbench

import "github.com/hfreduce/hfreduce/hfreduce/internal/kernel"

const (
	pageBytes = 4096
	// stagger is how much further into a page each buffer starts than the one before: 3 cache lines. Loads from one buffer and
	// stores to another wait for each other where the addresses are equal modulo 4 KiB.
	stagger = 3 * 64
)

// shape is the buffers of a case: how many, and of how many bytes each.
type shape struct {
	sources, outputs int
	source, output   int64
}

// shape divides the working set among the buffers. The narrowest have whole pages, at least one.
func (s subject) shape() shape {
	narrow, wide := int64(s.dtype.Size()), int64(s.dtype.Size())
	sh := shape{sources: s.sources, outputs: 1}
	switch s.variant {
	case WideOut:
		wide = int64(kernel.Float32.Size())
	case SecondOut:
		sh.outputs = 2
	}
	each := int64(sh.sources)*narrow + int64(sh.outputs)*wide // of one element in all buffers
	sh.source = wholePages(s.size / each * narrow)
	sh.output = sh.source / narrow * wide
	return sh
}

// wholePages rounds bytes down to pages, at least one.
func wholePages(bytes int64) int64 { return max(pageBytes, bytes/pageBytes*pageBytes) }

// traffic returns the bytes that a call reads and writes.
func (s shape) traffic() int64 { return int64(s.sources)*s.source + int64(s.outputs)*s.output }

// place is where a buffer lies in the arena.
type place struct{ offset, bytes int64 }

func (p place) end() int64 { return p.offset + p.bytes }

// layout is where the buffers of a case lie. Sources are at the beginning of the arena and outputs behind those of all cases
// of that working set, so that no case writes over what another one reads.
type layout struct{ sources, outputs []place }

// layout places the buffers of a case, the outputs from outputsAt on, which is a multiple of a page.
func (s shape) layout(outputsAt int64) (l layout) {
	for i := range int64(s.sources) {
		l.sources = append(l.sources, place{i * (s.source + stagger), s.source})
	}
	at := outputsAt + int64(s.sources)*stagger
	for i := range int64(s.outputs) {
		l.outputs = append(l.outputs, place{at + i*(s.output+stagger), s.output})
	}
	return l
}

// halves returns where the yardstick copies from and to: from the sources' part of the arena to that of the outputs.
func halves(size, outputsAt int64) (from, to place) {
	half := wholePages(size / 2)
	return place{0, half}, place{outputsAt + stagger, half}
}

// region is how the arena is divided for a working set.
type region struct{ outputsAt, bytes int64 }

// regionOf divides the arena for all cases of a working set.
func regionOf(groups []group, size int64) (r region) {
	from, _ := halves(size, 0)
	r.outputsAt = from.end()
	each := func(visit func(sh shape)) {
		for _, g := range groups {
			for _, s := range g.cases {
				if s.size == size {
					visit(s.shape())
				}
			}
		}
	}
	each(func(sh shape) { r.outputsAt = max(r.outputsAt, int64(sh.sources)*(sh.source+stagger)) })
	r.outputsAt = (r.outputsAt + pageBytes - 1) / pageBytes * pageBytes
	_, to := halves(size, r.outputsAt)
	r.bytes = to.end()
	each(func(sh shape) {
		outputs := sh.layout(r.outputsAt).outputs
		r.bytes = max(r.bytes, outputs[len(outputs)-1].end())
	})
	return r
}
