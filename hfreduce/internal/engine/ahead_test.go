// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// TestDevicesFillALittleAhead: whatever the order in which ranks and their devices come to it, no device fills an item unless
// all ranks of its node have given theirs of the one two before, though it has slots; and nothing waits for ever, or comes out
// wrong. Devices go on while their ranks add.
func TestDevicesFillALittleAhead(t *testing.T) {
	layouts := [][]int{{0, 0}, {0, 0, 0, 0}, {0, 0, 1, 1}, {0, 0, 1, 1, 2, 2}, {0, 0, 1}, {0, 1}}
	kinds := []schedule.Collective{schedule.AllReduce, schedule.AllReduce, schedule.Reduce, schedule.Broadcast, schedule.ReduceScatter, schedule.AllGather}
	var held, tended int
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		nodeOf := layouts[rng.IntN(len(layouts))]
		w := newStepped(t, nodeOf, 1<<rng.IntN(6), 8192, 1024, true)
		for r, e := range w.engines {
			e.device.aheadBytes, e.team.bytes, e.team.unit = 1, 1, 512
			e.device.ahead = e.aheadOf(e.mem.chunk, 1)
			w.devices[r].filling = w.filling(t, r, &held)
			e.team.tend = func() error {
				tended++
				w.devices[rng.IntN(len(nodeOf))].step()
				return e.tend()
			}
		}
		for range 6 {
			kind := kinds[rng.IntN(len(kinds))]
			w.begin(rng, kind, 4*[]int64{1, 2048, 20_000, 70_000}[rng.IntN(4)], rng.IntN(len(nodeOf)))
			if err := w.run(t, rng, func() {}); err != nil {
				t.Fatalf("seed %d: %v on %v: %v", seed, kind, nodeOf, err)
			}
			if kind == schedule.AllReduce {
				w.checkSums(t, seed)
			}
		}
	}
	if held == 0 || tended == 0 {
		t.Errorf("%d free slots were held back, and devices were tended %d times: the test has not seen what it is for", held, tended)
	}
}

// filling returns what checks that a rank's device may fill up to an item, and that its engine knows what it is given together with,
// and counts the slots that are free beyond it.
func (w *stepped) filling(t *testing.T, rank int, held *int) func(n uint32) {
	e := w.engines[rank]
	return func(n uint32) {
		through := e.mem.through()
		limit := through + uint32(e.mem.slots)
		if before(limit, n) {
			t.Fatalf("rank %d: item %d is filled when the slots reach to %d", rank, n, limit)
		}
		for seq := e.head; seq != e.next; seq++ { // what is filled now, of what is begun
			it := &e.ring[seq%uint32(e.mem.slots)]
			if it.filling && !before(n, seq) && !e.device.reached(Copied, seq) && (before(it.together, n) || it.together-n >= maxGroup) {
				t.Fatalf("rank %d: item %d, which is filled together with item %d, is taken for one of the group up to item %d", rank, seq, n, it.together)
			}
		}
		if e.localSize == 1 {
			return
		}
		for l := range e.localSize {
			given := max(through, atomic.LoadUint32(e.mem.deviceWord(l, Copied)))
			for slot := range e.mem.slots {
				given = max(given, atomic.LoadUint32(&e.mem.readyLine(slot, l).seq))
			}
			if n > given+minAhead {
				t.Fatalf("rank %d: item %d is filled when local rank %d has given %d", rank, n, l, given)
			}
			if before(given+minAhead, limit) {
				*held++
			}
		}
	}
}

// checkSums checks the results of an AllReduce.
func (w *stepped) checkSums(t *testing.T, seed uint64) {
	t.Helper()
	for at := 0; at < len(w.inputs[0]); at += 4 {
		sum := uint32(0)
		for _, in := range w.inputs {
			sum += binary.NativeEndian.Uint32(in[at:])
		}
		for r, out := range w.outputs {
			if got := binary.NativeEndian.Uint32(out[at:]); got != sum {
				t.Fatalf("seed %d: rank %d has %#x at %d, want %#x", seed, r, got, at, sum)
			}
		}
	}
}

func TestAhead(t *testing.T) {
	w := newStepped(t, []int{0, 0, 1}, 16, 8192, 1024, true)
	for _, c := range []struct {
		rank  int
		chunk int64
		most  uint32
		want  uint32
	}{
		{0, 4 << 20, 1, 2}, {0, 2 << 20, 1, 2}, {0, 1 << 20, 1, 3}, {0, 512 << 10, 1, 6}, {0, 4096, 1, 16}, {0, 0, 1, 16},
		{0, 4 << 20, 2, 2}, {0, 4 << 20, 4, 4}, {0, 512 << 10, 2, 6}, {0, 4 << 20, 16, 16}, {2, 4 << 20, 1, 16}, {2, 4 << 20, 2, 16},
	} {
		if got := w.engines[c.rank].aheadOf(c.chunk, c.most); got != c.want {
			t.Errorf("rank %d fills %d items of %d bytes ahead that are given %d together, want %d", c.rank, got, c.chunk, c.most, c.want)
		}
	}
}

// TestStaleWordsAreNotAhead: the words of a rank that has no device stay 0, however far the numbers go.
func TestStaleWordsAreNotAhead(t *testing.T) {
	m := &newStepped(t, []int{0, 0}, 4, 8192, 1024, true).engines[0].mem
	for _, seq := range []uint32{1, 1 << 20, 1 << 31, 1<<31 + 5, 1<<32 - 1<<17} {
		if m.gave(1, seq) {
			t.Errorf("a rank that has given nothing gave item %d", seq)
		}
	}
	for _, seq := range []uint32{7, 1 << 31, 0} {
		atomic.StoreUint32(m.deviceWord(1, Copied), seq)
		if !m.gave(1, seq) || !m.gave(1, seq-3) || m.gave(1, seq+1) {
			t.Errorf("a device that has filled item %d is taken for another", seq)
		}
	}
}

// TestResultFollowsTheNumbers: a rank that takes nothing by its device for very long finds no result of an item that is yet to
// come, and can still be released.
func TestResultFollowsTheNumbers(t *testing.T) {
	const stride = 1 << 28
	w, rng := newStepped(t, []int{0, 0}, 4, 8192, 1024, true), rand.New(rand.NewPCG(1, 1))
	for n := uint32(1); n < 1<<32-stride; n += stride {
		for _, e := range w.engines { // as if as many items had been there
			e.next, e.head, e.settled, e.opened = n, n, n, n
			atomic.StoreUint32(e.mem.doneWord(e.local), n-1)
		}
		w.begin(rng, schedule.Barrier, 0, 0)
		if err := w.run(t, rng, func() {}); err != nil {
			t.Fatal(err)
		}
		for r, e := range w.engines {
			word := atomic.LoadUint32(e.device.word(Result))
			if !before(word, n) || before(word+releasedBy, n+1<<20) {
				t.Fatalf("rank %d: the device that waits for item %d finds %d, and %d when it is released", r, n, word, word+releasedBy)
			}
		}
	}
}
