// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
)

// bytesOf returns what a vector points to.
func bytesOf(v *vector) []byte {
	var b []byte
	for _, iov := range v.iov[:v.used] {
		b = append(b, unsafe.Slice(iov.Base, iov.Len)...)
	}
	return b
}

// TestGatherCuts: whatever part of each vector the kernel takes, the stream is whole frames with the right payloads, and
// its grants never go back and end with the latest.
func TestGatherCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const posts, first = 5, 250 // soon a grant changes in two bytes of the header
		l := newLink(-1, 1, "", &transport.LinkConfig{MaxPosts: posts, Start: first, Window: rapid.Uint32Range(0, 6).Draw(t, "window")}, nil, nil)
		l.credits.Heard(1000)
		l.out.err = unix.EAGAIN // Post does not try to send
		var stream []byte
		var posted [][]byte
		grant, events := uint32(first), 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				payload := bytes.Repeat([]byte{byte(len(posted) + 1)}, rapid.SampledFrom([]int{0, 1, 50, 64, 1000, 1024, 1025, 300_000, 1_200_000}).Draw(t, "bytes"))
				err := l.Post(transport.Message{Seq: first + uint32(len(posted)), Payload: payload})
				if full := len(posted)-events == posts; full != errors.Is(err, transport.ErrPosts) {
					t.Fatalf("post with %d outstanding: %v", len(posted)-events, err)
				} else if !full {
					posted = append(posted, payload)
				}
			case 1:
				grant += rapid.Uint32Range(0, 3).Draw(t, "grant")
				l.Grant(grant)
			case 2:
				stream = append(stream, take(t, l, false)...)
			case 3:
				events += l.out.completions(make([]transport.Event, 2))
			}
		}
		l.credits.Force()
		for l.queueGrant(); l.out.n > 0; l.queueGrant() {
			stream = append(stream, take(t, l, true)...)
		}
		checkStream(t, stream, first, posted, grant)
		if events += l.out.completions(make([]transport.Event, posts)); events != len(posted) || l.out.posts != 0 {
			t.Fatalf("%d posts, %d completions, %d outstanding", len(posted), events, l.out.posts)
		}
	})
}

// take plays the kernel: it takes a part of what is gathered, or all.
func take(t *rapid.T, l *Link, all bool) []byte {
	l.queueGrant()
	l.out.gather(l.credits.Granted())
	b := bytesOf(&l.out.vec)
	l.out.vec.reset()
	if len(b) > maxCall+maxGather*2*unit {
		t.Fatalf("%d bytes in one call", len(b))
	}
	if !all {
		b = b[:min(len(b), rapid.SampledFrom([]int{0, 1, 17, 63, 64, 65, 64 + 17, 100_000, 1 << 30}).Draw(t, "taken"))]
	}
	l.advance(len(b))
	return slices.Clone(b)
}

func checkStream(t *rapid.T, stream []byte, first uint32, posted [][]byte, grant uint32) {
	last, i := first, 0
	for len(stream) > 0 {
		if len(stream) < headerBytes {
			t.Fatalf("%d bytes are left over", len(stream))
		}
		h, err := decode(stream)
		if err != nil {
			t.Fatal(err)
		}
		stream = stream[headerBytes:]
		if h.grant < last {
			t.Fatalf("the grant goes back from %d to %d", last, h.grant)
		}
		last = h.grant
		if h.kind != kindMessage {
			continue
		}
		if h.seq != first+uint32(i) || i == len(posted) || int(h.bytes) != len(posted[i]) || !bytes.Equal(stream[:h.bytes], posted[i]) {
			t.Fatalf("message %d is %+v or has a wrong payload", i, h)
		}
		stream = stream[int(h.bytes)+padding(int(h.bytes)):]
		i++
	}
	if i != len(posted) || last != grant {
		t.Fatalf("%d of %d messages came out, grant %d of %d", i, len(posted), last, grant)
	}
}

// TestSendFails: what the peer sent before its end is delivered, although the kernel refuses to send; then comes the
// error.
func TestSendFails(t *testing.T) {
	w := newWire(t)
	defer w.close()
	w.link.out.err = unix.EPIPE
	ev := make([]transport.Event, 4)
	if _, err := unix.Write(w.peer, frame(header{kind: kindMessage, bytes: 3, grant: 9}, []byte("abc"))); err != nil {
		t.Fatal(err)
	}
	if n, err := w.link.Poll(ev); n != 1 || err != nil {
		t.Fatalf("got %d events, %v", n, err)
	}
	if err := w.link.Post(transport.Message{Payload: []byte("x")}); err != nil {
		t.Errorf("post before the error is known: %v", err)
	}
	if n, err := w.link.Poll(ev); n != 0 || !errors.Is(err, unix.EPIPE) || !errors.Is(err, transport.ErrPeerLost) {
		t.Errorf("got %d events, %v", n, err)
	}
}

// TestPollIsBounded: a Poll moves little more than maxMoved bytes each way, however much there is.
func TestPollIsBounded(t *testing.T) {
	a, b := streamPair(t, make([]byte, 24<<20))
	var ev [1]transport.Event
	if err := a.Post(transport.Message{Payload: make([]byte, 24<<20)}); err != nil {
		t.Fatal(err)
	}
	sent := make(chan int, 1)
	go func() {
		most := 0
		for n := 0; n == 0; {
			gone := a.out.gone
			n, _ = a.Poll(ev[:])
			most = max(most, a.out.gone-gone)
		}
		sent <- most
	}()
	most := 0
	var mine [1]transport.Event
	until(t, "received", func() bool {
		left := len(b.in.rest)
		n, err := b.Poll(mine[:])
		most = max(most, left-len(b.in.rest))
		return n > 0 || err != nil
	})
	if most >= maxMoved+maxCall+bufferBytes {
		t.Errorf("a poll received %d bytes", most)
	}
	if most := <-sent; most >= maxMoved+maxCall+headerBytes {
		t.Errorf("a poll sent %d bytes", most)
	}
}

// streamPair returns two ends of a link with large buffers; a may post one item to b's one landing area.
func streamPair(t *testing.T, area []byte) (a, b *Link) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	links := make([]*Link, 2)
	errs := make(chan error)
	for r := range links {
		cfg := transport.LinkConfig{Bell: transporttest.NewSharedBell(t), Landings: [][]byte{area}}
		go func() {
			l, err := w.transports[r].Connect(t.Context(), 1-r, "k", cfg)
			if err == nil {
				links[r] = l.(*Link)
			}
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Fatal(err)
	}
	a, b = links[0], links[1]
	t.Cleanup(func() { a.Close(); b.Close() })
	b.Grant(1)
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	until(t, "granted", func() bool { a.Poll(make([]transport.Event, 1)); return a.Limit() == 1 })
	return a, b
}

// TestCloseSendsNoMessage: what was posted and not reported Sent does not leave with the end of the link, whose owner may have
// lost the payload to others already.
func TestCloseSendsNoMessage(t *testing.T) {
	a, b := streamPair(t, make([]byte, 8))
	payload := []byte{1, 2, 3, 4}
	if err := a.Post(transport.Message{Payload: payload}); err != nil {
		t.Fatal(err)
	}
	clear(payload)
	a.Close()
	var ev [1]transport.Event
	until(t, "broken", func() bool {
		n, err := b.Poll(ev[:])
		if n > 0 {
			t.Fatalf("%d bytes of a message arrived", ev[0].Bytes)
		}
		if errors.Is(err, transport.ErrPeerClosed) {
			t.Fatal("the peer was told that everything had been sent")
		}
		return err != nil
	})
}
