// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// upTo returns the numbers from 0 to n-1, without some.
func upTo(n uint32, without ...uint32) []uint32 {
	items := []uint32{}
	for i := range n {
		if !slices.Contains(without, i) {
			items = append(items, i)
		}
	}
	return items
}

func TestDrop(t *testing.T) {
	for text, lost := range map[string][]uint32{
		"drop seq=3,5-6":                   {3, 5, 6},
		"drop landing=2":                   {2},
		"drop after=9":                     {9, 10, 11},
		"drop after=3 times=2":             {3, 4},
		"drop rank=1":                      {},
		"drop rank=0 peer=0":               {},
		"drop seq=3; drop seq=3 times=1":   {3},
		"drop seq=1 rank=0-9; drop seq=11": {1, 11},
	} {
		t.Run(text, func(t *testing.T) {
			ends := memPair(t, text)
			for n := range 12 {
				ends[0].post(n)
			}
			ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 12 })
			for _, ev := range ends[0].events {
				m := message(int(ev.Seq))
				if want := (transport.Event{Kind: transport.Sent, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: areaBytes}); ev != want {
					t.Errorf("%+v, want %+v", ev, want)
				}
			}
			want := upTo(12, lost...)
			ends[1].until("received", func() bool { return ends[1].count(transport.Received) == len(want) })
			ends[1].quiet()
			if got := ends[1].of(transport.Received); !slices.Equal(got, want) {
				t.Errorf("received %v, want %v", got, want)
			}
			for _, n := range lost {
				if ends[1].landings[n][0] != 0 {
					t.Errorf("message %d landed", n)
				}
			}
		})
	}
}

// TestDropFreesThePost: what was dropped counts as sent: MaxPosts more can follow.
func TestDropFreesThePost(t *testing.T) {
	ends := memPair(t, "drop p=0.5")
	for n := range areas {
		ends[0].post(n)
	}
	if err := ends[0].link.Post(message(0)); !errors.Is(err, transport.ErrPosts) {
		t.Errorf("one more post than there may be: %v", err)
	}
	ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == areas })
	ends[1].until("some", func() bool { return ends[1].count(transport.Received) > 0 })
	ends[0].events = nil
	for n := range areas {
		ends[0].post(n)
	}
	ends[0].until("sent again", func() bool { return ends[0].count(transport.Sent) == areas })
}

// TestReset: what was sent before arrives, then both ends are broken.
func TestReset(t *testing.T) {
	for kind, pair := range pairs() {
		t.Run(kind, func(t *testing.T) {
			ends := pair(t, "reset rank=0 peer=1 after=5")
			for n := range 5 {
				ends[0].post(n)
			}
			ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 5 })
			if err := ends[0].link.Post(message(5)); !errors.Is(err, transport.ErrPeerLost) {
				t.Errorf("the post that resets the link: %v", err)
			}
			checkBroken(t, ends[0], `an injected fault, "reset rank=0 peer=1 after=5 times=1"`)
			checkBroken(t, ends[1], "")
			if got := ends[1].of(transport.Received); !slices.Equal(got, upTo(5)) {
				t.Errorf("received %v", got)
			}
		})
	}
}

// pairs returns how to make pairs over each transport.
func pairs() map[string]func(testing.TB, string) [2]*end {
	return map[string]func(testing.TB, string) [2]*end{
		"mem": memPair,
		"tcp": func(t testing.TB, text string) [2]*end {
			return pairOver(t, text, tcpWorld, transporttest.NewSharedBell)
		},
	}
}

// TestPartial: of the message that the link breaks in, the first bytes land; it is neither sent nor received.
func TestPartial(t *testing.T) {
	for kind, pair := range pairs() {
		t.Run(kind, func(t *testing.T) {
			ends := pair(t, "partial=512 rank=0 seq=2")
			for n := range 2 {
				ends[0].post(n)
			}
			ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 2 })
			if err := ends[0].link.Post(message(2)); !errors.Is(err, transport.ErrPeerLost) {
				t.Errorf("the torn post: %v", err)
			}
			checkBroken(t, ends[1], "")
			checkBroken(t, ends[0], `"partial=512 rank=0 seq=2 times=1"`)
			if got := ends[1].of(transport.Received); !slices.Equal(got, upTo(2)) {
				t.Errorf("received %v", got)
			}
			for i, x := range ends[1].landings[2] {
				if want := byte(3); i < 512 && x != want || i >= 512 && x != 0 {
					t.Fatalf("byte %d of the area is %d", i, x)
				}
			}
		})
	}
}

// TestResetBehindDelay: a fault waits for its turn; what is behind it is lost.
func TestResetBehindDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "delay=3s seq=1; reset seq=3")
		for n := range 5 {
			ends[0].post(n)
		}
		begin := time.Now()
		checkBroken(t, ends[0], `"reset seq=3 times=1"`)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("broken after %v", took)
		}
		checkBroken(t, ends[1], "")
		if got := ends[1].of(transport.Received); !slices.Equal(got, upTo(3)) {
			t.Errorf("received %v", got)
		}
	})
}

// TestHalfClose: nothing gets from rank 0 to rank 1, grants neither; the other way works.
func TestHalfClose(t *testing.T) {
	ends := memPair(t, "half-close rank=0 peer=1 after=4")
	for n := range 8 {
		ends[0].post(n)
		ends[1].post(n)
	}
	ends[0].link.Grant(areas + 10)
	ends[1].link.Grant(areas + 20)
	for _, e := range ends {
		if err := e.link.Flush(); err != nil {
			t.Error(err)
		}
	}
	ends[0].until("all of rank 1", func() bool {
		return ends[0].count(transport.Received) == 8 && ends[0].count(transport.Sent) == 8 && ends[0].link.Limit() == areas+20
	})
	ends[1].until("all", func() bool { return ends[1].count(transport.Received) == 4 && ends[1].count(transport.Sent) == 8 })
	ends[1].quiet()
	if l := ends[1].link.Limit(); l != areas {
		t.Errorf("a grant got through: %d", l)
	}
	ends[0].link.Close()
	checkBroken(t, ends[1], "")
}

// TestCorrupt: so many bits of the landed message differ, always the same ones; the sender's memory is as it was.
func TestCorrupt(t *testing.T) {
	spoil := func(text string) []byte {
		ends := memPair(t, text)
		m := message(3)
		if err := ends[0].link.Post(m); err != nil {
			t.Fatal(err)
		}
		ends[1].until("message", func() bool { return ends[1].count(transport.Received) == 1 })
		if !slices.Equal(m.Payload, message(3).Payload) {
			t.Errorf("%q: the sender's memory has changed", text)
		}
		return ends[1].landings[3]
	}
	distance := func(a, b []byte) (n int) {
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		return n
	}
	clean := message(3).Payload
	for _, n := range []int{1, 2, 77, 4096} {
		text := fmt.Sprintf("corrupt=%d seq=3", n)
		got := spoil(text)
		if d := distance(got, clean); d != n {
			t.Errorf("%q: %d bits differ", text, d)
		}
		if again := spoil(text); !slices.Equal(got, again) {
			t.Errorf("%q flips other bits the second time", text)
		}
		if other := spoil("seed=2; " + text); slices.Equal(got, other) {
			t.Errorf("%q flips the same bits with another seed", text)
		}
	}
	if got := spoil("corrupt=9 seq=2"); distance(got, clean) != 0 {
		t.Error("another message was spoilt")
	}
}

func TestFlipAllBitsThereAre(t *testing.T) {
	b := []byte{0, 0xff, 0x0f}
	flip(b, 4096, 5)
	if !slices.Equal(b, []byte{0xff, 0, 0xf0}) {
		t.Errorf("got %x", b)
	}
	flip(nil, 3, 5)
}

// TestCorruptWhereItLands: a message that was redirected is spoilt where it lies.
func TestCorruptWhereItLands(t *testing.T) {
	ends := pairs()["tcp"](t, "corrupt=8 rank=0")
	elsewhere := make([]byte, areaBytes)
	if !ends[1].link.(transport.Redirector).Redirect(1, 1, elsewhere) {
		t.Fatal("not redirected")
	}
	for n := range 3 {
		ends[0].post(n)
	}
	ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 3 })
	ends[1].until("received", func() bool { return ends[1].count(transport.Received) == 3 })
	if ends[1].intact(0) || ends[1].intact(2) || ends[1].landings[1][0] != 0 {
		t.Error("what was not redirected is intact, or the landing area of what was is written")
	}
	wrong := 0
	for _, x := range elsewhere {
		wrong += bits.OnesCount8(x ^ 2)
	}
	if wrong != 8 {
		t.Errorf("%d bits of the redirected message differ", wrong)
	}
}

// TestDelay: a delayed message and what is behind it come so much later, in order; what was before is not held, and the
// other direction is not.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "delay=5ms seq=2 rank=0; delay=2ms seq=2-3 rank=0")
		begin := time.Now()
		for n := range 6 {
			ends[0].post(n)
			ends[1].post(n)
		}
		ends[0].until("the other direction", func() bool { return ends[0].count(transport.Received) == 6 })
		if time.Since(begin) != 0 || ends[0].count(transport.Sent) != 2 {
			t.Errorf("after %v %v are sent", time.Since(begin), ends[0].of(transport.Sent))
		}
		ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 6 })
		if took := time.Since(begin); took != 7*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		ends[1].until("received", func() bool { return ends[1].count(transport.Received) == 6 })
		if got := ends[1].of(transport.Received); !slices.Equal(got, upTo(6)) {
			t.Errorf("received %v", got)
		}
	})
}

// TestDelaySteps: each of several delayed messages leaves at its own time.
func TestDelaySteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "delay=10ms")
		begin := time.Now()
		for n := range 4 {
			ends[0].post(n)
			time.Sleep(3 * time.Millisecond)
		}
		for n := range 4 {
			ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == n+1 })
			want := time.Duration(10+3*n) * time.Millisecond
			if n == 0 {
				want = 12 * time.Millisecond // nobody polled before
			}
			if took := time.Since(begin); took != want {
				t.Errorf("message %d left after %v, want %v", n, took, want)
			}
		}
	})
}

// TestCloseWithHeld: a link that is closed with messages held rings no more, and lets go of what it held.
func TestCloseWithHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rings := 0
		ends := pairOver(t, "delay=1s", memWorld, func(t testing.TB) wait.Bell { return countingBell{chanBell(t), &rings} })
		ends[0].post(0)
		ends[0].link.Close()
		before := rings
		time.Sleep(5 * time.Second)
		if rings != before {
			t.Errorf("a closed link rang %d times", rings-before)
		}
		if err := ends[0].link.Post(message(1)); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("post after close: %v", err)
		}
	})
}

type countingBell struct {
	wait.Bell
	rings *int
}

func (b countingBell) Ring() {
	*b.rings++
	b.Bell.Ring()
}

// TestPartition: messages and grants of both directions stop, and go on in order when it has healed.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "partition=0|1 after=2 for=2s")
		begin := time.Now()
		for n := range 6 {
			ends[0].post(n)
			ends[1].post(n)
		}
		for _, e := range ends {
			e.until("what is before", func() bool { return e.count(transport.Sent) == 2 && e.count(transport.Received) == 2 })
			e.link.Grant(areas + 10)
			if err := e.link.Flush(); err != nil {
				t.Error(err)
			}
		}
		for _, e := range ends {
			e.quiet()
			if l := e.link.Limit(); l != areas {
				t.Errorf("a grant crossed the border: %d", l)
			}
		}
		for _, e := range ends {
			e.until("sent", func() bool { return e.count(transport.Sent) == 6 })
			if took := time.Since(begin); took != 2*time.Second {
				t.Errorf("it was healed after %v", took)
			}
		}
		for _, e := range ends {
			e.until("received", func() bool { return e.count(transport.Received) == 6 && e.link.Limit() == areas+10 })
			if got := e.of(transport.Received); !slices.Equal(got, upTo(6)) {
				t.Errorf("received %v", got)
			}
		}
		for n := range 6 {
			ends[0].post(n)
		}
		ends[0].until("more", func() bool { return ends[0].count(transport.Sent) == 12 })
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("it came again: %v", took)
		}
	})
}

// TestPartitionHealsGrants: where only a grant is held, the end of the partition wakes who would send it.
func TestPartitionHealsGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "partition=0|1 for=3s")
		ends[0].post(0)
		ends[0].link.Grant(areas + 5)
		ends[0].link.Flush()
		begin := time.Now()
		ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 1 })
		ends[1].until("grant", func() bool { return ends[1].link.Limit() == areas+5 })
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// TestPartitionForEver: nothing crosses, and a close does not either, but as a break.
func TestPartitionForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := memPair(t, "partition=1|0 after=1")
		for n := range 3 {
			ends[0].post(n)
		}
		time.Sleep(100 * time.Hour)
		ends[0].until("sent", func() bool { return ends[0].count(transport.Sent) == 1 })
		ends[0].quiet()
		ends[0].link.Close()
		checkBroken(t, ends[1], "")
		if got := ends[1].of(transport.Received); !slices.Equal(got, upTo(1)) {
			t.Errorf("received %v", got)
		}
	})
}

// TestSameSeedSameFaults: which messages are hit, and in what way, follows from the seed, whatever the order of posts.
func TestSameSeedSameFaults(t *testing.T) {
	hits := func(seed uint64, backwards bool) (all []Hit) {
		ends := memPair(t, fmt.Sprintf("seed=%d; drop p=0.3; corrupt=2 p=0.4; drop p=0.1 rank=1", seed))
		for n := range areas {
			if backwards {
				n = areas - 1 - n
			}
			ends[0].post(n)
			ends[1].post(n)
		}
		for _, e := range ends {
			e.until("sent", func() bool { return e.count(transport.Sent) == areas })
		}
		for _, e := range ends {
			for moved := true; moved; {
				moved, _ = e.poll()
			}
		}
		for _, e := range ends {
			for _, h := range e.hits {
				h.Message = 0 // differs with the order
				all = append(all, h)
			}
		}
		slices.SortFunc(all, func(a, b Hit) int { return slices.Compare(key(a), key(b)) })
		return all
	}
	first := hits(1, false)
	if n := len(first); n < areas/2 || n > 3*areas/2 {
		t.Errorf("%d hits of %d messages", n, 2*areas)
	}
	for _, backwards := range []bool{false, true} {
		if again := hits(1, backwards); !reflect.DeepEqual(first, again) {
			t.Errorf("backwards %v: other faults with the same seed:\n%v\n%v", backwards, first, again)
		}
	}
	if other := hits(2, false); reflect.DeepEqual(first, other) {
		t.Error("the same faults with another seed")
	}
}

func key(h Hit) []uint32 {
	return []uint32{uint32(h.From), h.Seq, uint32(len(h.Rule)), uint32(h.Action[0])}
}

// TestTimesIsOfThePair: a bounded rule is bounded over all links of two ranks.
func TestTimesIsOfThePair(t *testing.T) {
	ts := memWorld(t, 2)
	faulty := New(ts[0], Config{Plan: mustParse(t, "drop rank=0 times=3"), Rank: 0})
	dropped := 0
	for _, key := range []string{"first", "second"} {
		var landings [][]byte
		for range areas {
			landings = append(landings, make([]byte, areaBytes))
		}
		peer := make(chan transport.Link, 1)
		go func() {
			l, err := ts[1].Connect(t.Context(), 0, key, transport.LinkConfig{Landings: landings, Bell: chanBell(t), Window: 1, Start: 0})
			if err != nil {
				t.Error(err)
			}
			peer <- l
		}()
		l, err := faulty.Connect(t.Context(), 1, key, transport.LinkConfig{Bell: chanBell(t)})
		if err != nil {
			t.Fatal(err)
		}
		b := <-peer
		b.Grant(areas)
		b.Flush()
		var ev [areas]transport.Event
		if _, err := l.Poll(ev[:]); err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			if err := l.Post(message(n)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := b.Poll(ev[:])
		if err != nil {
			t.Fatal(err)
		}
		dropped += 2 - got
		l.Close()
		b.Close()
	}
	if dropped != 3 {
		t.Errorf("%d messages were dropped, want 3", dropped)
	}
}
