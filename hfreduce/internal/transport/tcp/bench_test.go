// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"fmt"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// BenchmarkLink streams messages from one goroutine to another, in clear and over TLS.
func BenchmarkLink(b *testing.B) {
	for _, bytes := range []int{4 << 10, 64 << 10, 512 << 10} {
		for _, secure := range []bool{false, true} {
			b.Run(fmt.Sprintf("bytes=%d/tls=%t", bytes, secure), func(b *testing.B) { benchmarkLink(b, bytes, secure) })
		}
	}
}

func benchmarkLink(b *testing.B, bytes int, secure bool) {
	const slots = 4
	w := newSecureWorld(b, 2, "127.0.0.1", authority(b, secure), func(c *Config) { c.Near = func(int) bool { return true }; c.Logger = nil })
	var links [2]transport.Link
	failed := make(chan error, 2)
	bells := [2]wait.Bell{transporttest.NewSharedBell(b), transporttest.NewSharedBell(b)}
	for r := range links {
		go func() {
			c := transport.LinkConfig{Bell: bells[r], Window: slots, MaxPosts: slots}
			for range slots {
				c.Landings = append(c.Landings, make([]byte, bytes))
			}
			var err error
			links[r], err = w.transports[r].Connect(b.Context(), 1-r, "k", c)
			failed <- err
		}()
	}
	for range links {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	defer links[0].Close()
	defer links[1].Close()
	b.SetBytes(int64(bytes))
	b.ResetTimer()
	go func() { failed <- receiveAll(links[1], bells[1], b.N, slots) }()
	payload := make([]byte, bytes)
	ev := make([]transport.Event, slots)
	for posted, sent := 0, 0; sent < b.N; {
		for posted < b.N && posted-sent < slots && transport.Before(uint32(posted), links[0].Limit()) {
			if err := links[0].Post(transport.Message{Landing: uint32(posted % slots), Seq: uint32(posted), Payload: payload}); err != nil {
				b.Fatal(err)
			}
			posted++
		}
		n, err := next(links[0], bells[0], ev)
		if err != nil {
			b.Fatal(err)
		}
		sent += n
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
}

// receiveAll takes so many messages and grants as many more.
func receiveAll(l transport.Link, bell wait.Bell, items, slots int) error {
	ev := make([]transport.Event, slots)
	l.Grant(uint32(slots))
	if err := l.Flush(); err != nil {
		return err
	}
	for received := 0; received < items; {
		n, err := next(l, bell, ev)
		if err != nil {
			return err
		}
		received += n
		l.Grant(uint32(received + slots))
	}
	return nil
}

// next polls, and sleeps if there is nothing. It returns without an event when the limit has risen, too.
func next(l transport.Link, bell wait.Bell, ev []transport.Event) (int, error) {
	limit := l.Limit()
	n, err := l.Poll(ev)
	if n > 0 || err != nil || l.Limit() != limit {
		return n, err
	}
	bell.Arm()
	if n, err = l.Poll(ev); n > 0 || err != nil || l.Limit() != limit {
		bell.Disarm()
		return n, err
	}
	bell.Sleep(0)
	return 0, nil
}
