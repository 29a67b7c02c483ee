// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/mem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// ends returns the two ends of a link within this process.
func ends(t *testing.T, cfg Config) [2]*end {
	t.Helper()
	network := mem.NewNetwork(2)
	var both [2]*end
	var wg sync.WaitGroup
	for i := range both {
		wg.Go(func() {
			c := cfg
			c.First, c.Policy = i == 0, wait.LocalPolicy(2, runtime.GOMAXPROCS(0))
			out, in := make([]byte, c.Bytes()), make([]byte, c.Bytes())
			link, err := network.Transport(i).Connect(t.Context(), 1-i, "test", c.LinkConfig(in))
			if err != nil {
				t.Error(err)
				return
			}
			both[i] = newEnd(context.Background(), &c, link, out, in)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return both
}

// Nothing is allocated while the clock runs, and windows of any size do.
func TestTimedPhasesAllocateNothing(t *testing.T) {
	for _, window := range []int{1, 2, 3, 8} {
		for kind := OneWay; kind <= PingPong; kind++ {
			const runs = 20
			both := ends(t, Config{Kind: kind, Sizes: []int{500}, Window: window, Timeout: 20 * time.Second})
			phase := func(e *end) error {
				if kind == PingPong {
					return e.pingPong(50, 500, nil)
				}
				return e.bulk(50, 500, nil)
			}
			done := make(chan error, 1)
			go func() {
				var errs []error
				for range runs + 1 {
					errs = append(errs, both[1].meet(), phase(both[1]))
				}
				done <- errors.Join(append(errs, both[1].part())...)
			}()
			var errs [3]error
			allocated := testing.AllocsPerRun(runs, func() {
				errs[0] = errors.Join(errs[0], both[0].meet())
				errs[1] = errors.Join(errs[1], phase(both[0]))
			})
			errs[2] = both[0].part()
			if err := errors.Join(errors.Join(errs[:]...), <-done); err != nil {
				t.Fatalf("kind %d, window %d: %v", kind, window, err)
			}
			if samples := 1.0; allocated > samples { // of the ping-pong, before the clock runs
				t.Errorf("kind %d, window %d: %v allocations in a phase", kind, window, allocated)
			}
		}
	}
}

// A peer that sends what it should not is found out.
func TestUnexpectedMessage(t *testing.T) {
	both := ends(t, Config{Sizes: []int{500}, Window: 4, Timeout: 20 * time.Second})
	go func() { _ = both[1].stream(2, 0, 400, false) }()
	if err := both[0].stream(0, 2, 500, false); !errors.Is(err, transport.ErrProtocol) {
		t.Errorf("got %v, want a protocol error", err)
	}
}

func TestMismatch(t *testing.T) {
	for n := range 40 {
		b := make([]byte, n)
		fill(b, 7)
		if at := mismatch(b, 7); at >= 0 {
			t.Errorf("%d bytes: byte %d is wrong", n, at)
		}
		if at := mismatch(b, 8); n > 0 && (at < 0 || at > 3) {
			t.Errorf("%d bytes of another seed: byte %d is wrong", n, at)
		}
		for i := range b {
			b[i] ^= 0x10
			if at := mismatch(b, 7); at != i {
				t.Errorf("%d bytes: byte %d is wrong, found was %d", n, i, at)
			}
			b[i] ^= 0x10
		}
	}
}

func TestLatency(t *testing.T) {
	samples := make([]time.Duration, 1000)
	total := time.Duration(0)
	for i := range samples {
		samples[i] = time.Duration(1000-i) * time.Microsecond
		total += 2 * samples[i]
	}
	const us = time.Microsecond
	want := Latency{Min: us, Median: 501 * us, Mean: 500*us + 500, P99: 990 * us, Max: 1000 * us}
	if got := latencyOf(samples, total); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := latencyOf([]time.Duration{5}, 10); got != (Latency{5, 5, 5, 5, 5}) {
		t.Errorf("one sample: %+v", got)
	}
}

// silent is a link whose peer's host does not answer.
type silent struct {
	transport.Link
	bounds []time.Duration
}

func (s *silent) Poll([]transport.Event) (int, error) { return 0, nil }

func (s *silent) Alive(bound time.Duration) error {
	if s.bounds = append(s.bounds, bound); len(s.bounds) == 3 {
		return transport.ErrPeerLost
	}
	return nil
}

// A link is asked from time to time whether the other host answers, and only if somebody wants to know.
func TestWaitingEndAsksTheLink(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		both := ends(t, Config{Kind: OneWay, Sizes: []int{500}, Window: 1, Timeout: 100 * time.Millisecond})
		link := &silent{Link: both[0].link}
		both[0].link = link
		if wanted {
			both[0].prober, both[0].cfg.Silence = link, 4*time.Millisecond
		}
		err := both[0].receive()
		var stall *StallError
		if asked := len(link.bounds); wanted && (!errors.Is(err, transport.ErrPeerLost) || asked != 3 || link.bounds[0] != 4*time.Millisecond) ||
			!wanted && (!errors.As(err, &stall) || asked != 0) {
			t.Errorf("wanted %t: asked %d times, %v", wanted, asked, err)
		}
	}
}
