// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// heraldBell tells when its owner goes to sleep.
type heraldBell struct {
	wait.Bell
	asleep chan struct{}
}

func (b *heraldBell) Sleep(timeout time.Duration) bool {
	select {
	case b.asleep <- struct{}{}:
	default:
	}
	return b.Bell.Sleep(timeout)
}

// untilWoken runs the owner's loop of e until the condition holds, and reports each time before it sleeps.
func untilWoken(e *end, condition func() bool) (asleep <-chan struct{}, done <-chan error) {
	bell := &heraldBell{e.bell, make(chan struct{}, 1)}
	end := make(chan error, 1)
	go func() {
		for {
			bell.Arm()
			n, err := e.link.Poll(e.buf[:])
			e.events = append(e.events, e.buf[:n]...)
			if err != nil || condition() {
				bell.Disarm()
				end <- err
				return
			}
			if n > 0 {
				bell.Disarm()
				continue
			}
			if !bell.Sleep(patience) {
				end <- errors.New("a wake-up was lost")
				return
			}
		}
	}()
	return bell.asleep, end
}

// testSleepMessage: a message wakes a receiver that sleeps, many times.
func testSleepMessage(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{})
	for i := range 20 {
		asleep, done := untilWoken(b, func() bool { return b.count(transport.Received) == i+1 })
		<-asleep
		a.post(transport.Message{Seq: start, Payload: a.payload(100, 1)})
		await(t, "sent", func() bool { return a.count(transport.Sent) == i+1 }, a)
		if err := <-done; err != nil {
			t.Fatalf("receiver: %v", err)
		}
	}
}

// testSleepGrant: a grant wakes a sender that sleeps for credit.
func testSleepGrant(t *testing.T, impl Implementation) {
	a, b := newPair(t, impl, pairConfig{window: 2, grant: 1})
	for i := uint32(2); i < 20; i++ {
		asleep, done := untilWoken(a, func() bool { return a.link.Limit() == item(i) })
		<-asleep
		b.link.Grant(item(i))
		b.poll()
		if err := <-done; err != nil {
			t.Fatalf("sender: %v", err)
		}
	}
}

// testSleepBlocked: a sender that cannot get rid of its bytes sleeps until it can.
func testSleepBlocked(t *testing.T, impl Implementation) {
	n, bytes := 4, impl.bytes(4<<20)
	a, b := newPair(t, impl, pairConfig{landings: []int{bytes, bytes, bytes, bytes}, posts: n})
	for i := range n {
		a.post(a.message(i, bytes))
	}
	_, sender := untilWoken(a, func() bool { return a.count(transport.Sent) == n })
	_, receiver := untilWoken(b, func() bool { return b.count(transport.Received) == n })
	if err := <-sender; err != nil {
		t.Fatalf("sender: %v", err)
	}
	if err := <-receiver; err != nil {
		t.Fatalf("receiver: %v", err)
	}
	for i := range n {
		b.areas.check(t, uint32(i), bytes, uint64(i))
	}
}

// testSleepLoss: the end of the peer wakes, with and without goodbye.
func testSleepLoss(t *testing.T, impl Implementation) {
	for _, c := range []struct {
		name string
		end  func(l transport.Link)
		want error
	}{
		{"close", func(l transport.Link) { l.Close() }, transport.ErrPeerClosed},
		{"break", impl.Break, transport.ErrPeerLost},
	} {
		if c.end == nil {
			continue
		}
		a, b := newPair(t, impl, pairConfig{})
		asleep, done := untilWoken(b, func() bool { return false })
		<-asleep
		c.end(a.link)
		if err := <-done; !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}
