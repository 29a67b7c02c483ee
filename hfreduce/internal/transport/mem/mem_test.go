// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newBell(t testing.TB) wait.Bell {
	b := wait.NewChan()
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Implementation{
		New: func(t testing.TB, n int) []transport.Transport {
			w := NewNetwork(n)
			ts := make([]transport.Transport, n)
			for r := range ts {
				ts[r] = w.Transport(r)
				t.Cleanup(func() { ts[r].Close() })
			}
			return ts
		},
		NewBell: newBell,
		Break:   func(l transport.Link) { l.(*Link).Break() },
	})
}

func TestConnectTwice(t *testing.T) {
	w := NewNetwork(2)
	cfg := transport.LinkConfig{Bell: newBell(t)}
	first := make(chan error)
	go func() {
		_, err := w.Transport(0).Connect(t.Context(), 1, "k", cfg)
		first <- err
	}()
	refused := func() error {
		_, err := w.Transport(0).Connect(t.Context(), 1, "k", cfg)
		return err
	}
	// One of the two comes second; it is refused.
	second := make(chan error)
	go func() { second <- refused() }()
	select {
	case err := <-first:
		if err == nil {
			t.Error("the first was not refused, and nobody met it")
		}
		first = second
	case err := <-second:
		if err == nil {
			t.Error("the second was not refused, and nobody met it")
		}
	}
	if _, err := w.Transport(1).Connect(t.Context(), 0, "k", cfg); err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestFakeTime shows that a rank that sleeps for a message is durably blocked in a synctest bubble: the clock jumps.
func TestFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewNetwork(2)
		links := make(chan transport.Link)
		bells := [2]wait.Bell{wait.NewChan(), wait.NewChan()}
		for r := range 2 {
			go func() {
				l, err := w.Transport(r).Connect(t.Context(), 1-r, "k", transport.LinkConfig{Bell: bells[r], Landings: [][]byte{make([]byte, 8)}})
				if err != nil {
					t.Error(err)
				}
				links <- l
			}()
		}
		a, b := <-links, <-links
		if a.Peer() == 0 {
			a, b = b, a
		}
		b.Grant(1)
		b.Flush()
		a.Poll(make([]transport.Event, 1))
		began := time.Now()
		go func() {
			time.Sleep(30 * time.Minute)
			if err := a.Post(transport.Message{Payload: []byte("hello")}); err != nil {
				t.Error(err)
			}
		}()
		ev := make([]transport.Event, 1)
		for {
			bells[1].Arm()
			if n, _ := b.Poll(ev); n > 0 {
				break
			}
			bells[1].Sleep(0)
		}
		if took := time.Since(began); took != 30*time.Minute {
			t.Errorf("woken after %v", took)
		}
		a.Close()
		b.Close()
	})
}

func TestQueueGrowsInOrder(t *testing.T) {
	var q queue
	next, want := uint32(0), uint32(0)
	for round := range 40 {
		for range round {
			q.push(transport.Event{Seq: next})
			next++
		}
		buf := make([]transport.Event, round*2/3)
		for _, e := range buf[:q.pop(buf)] {
			if e.Seq != want {
				t.Fatalf("got %d, want %d", e.Seq, want)
			}
			want++
		}
	}
	if q.n != int(next-want) || q.n == 0 {
		t.Errorf("%d left, want %d", q.n, next-want)
	}
}
