// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// deafBell takes every Watch and never wakes anybody.
type deafBell struct{ wait.Bell }

func (deafBell) Watch(int, bool, bool) error { return nil }

// wire is a link whose peer is a bare descriptor: a test says byte by byte what the peer sends.
type wire struct {
	link  *Link
	peer  int
	areas [][]byte
	whole []byte // areas with bytes around them
}

const around = 0xEE

// granted is what a wire's link grants.
const granted = 100

func newWire(t testing.TB) *wire {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{peer: pair[1], whole: bytes.Repeat([]byte{around}, 70_000)}
	w.areas = [][]byte{w.whole[100:200:200], w.whole[300:300:300], w.whole[1000:60_000:60_000]}
	cfg := transport.LinkConfig{Landings: w.areas, Bell: deafBell{wait.NewChan()}, Window: 8}
	w.link = newLink(pair[0], 3, "here", &cfg, nil, func(fd int, _ []byte) { unix.Close(fd) })
	w.link.Grant(granted)
	return w
}

func (w *wire) close() {
	w.link.Close()
	if w.peer >= 0 {
		unix.Close(w.peer)
	}
}

// hangUp ends the peer's side.
func (w *wire) hangUp() {
	unix.Close(w.peer)
	w.peer = -1
}

func frame(h header, payload []byte) []byte {
	var b [headerBytes]byte
	h.encode(&b)
	return append(append(b[:], payload...), zeros[:padding(len(payload))]...)
}

// feed sends b as the peer and polls between the pieces that the kernel takes; it returns the events and the link's error.
func (w *wire) feed(t testing.TB, b []byte) (events []transport.Event, err error) {
	t.Helper()
	var ev [3]transport.Event
	for {
		n, werr := unix.Write(w.peer, b)
		if werr == nil {
			b = b[n:]
		} else if werr != unix.EAGAIN && werr != unix.EPIPE {
			t.Fatal(werr)
		}
		for {
			n, err := w.link.Poll(ev[:])
			events = append(events, ev[:n]...)
			if err != nil {
				return events, err
			}
			if n == 0 {
				break
			}
		}
		if len(b) == 0 {
			return events, nil
		}
	}
}

// intact checks that nothing was written outside the areas.
func (w *wire) intact(t testing.TB) {
	t.Helper()
	for i, x := range w.whole {
		if inside := i >= 100 && i < 200 || i >= 1000 && i < 60_000; !inside && x != around {
			t.Fatalf("byte %d, which is in no landing area, was written", i)
		}
	}
}

// TestStreamCuts: wherever the byte stream is cut, the same messages come out.
func TestStreamCuts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWire(t)
		defer w.close()
		var stream []byte
		var want []transport.Event
		var last []byte // of area 2
		for i := range rapid.IntRange(1, 12).Draw(rt, "messages") {
			h := header{kind: kindMessage, landing: 2, seq: uint32(i), tag: uint32(i * 7), sum: uint32(i * 11), grant: uint32(i)}
			h.bytes = rapid.SampledFrom([]uint32{0, 1, 30, 64, 4000, bufferBytes - headerBytes - 1, bufferBytes - headerBytes, bufferBytes - headerBytes + 1, 33_000, 59_000}).Draw(rt, "bytes")
			last = bytes.Repeat([]byte{byte(i + 1)}, int(h.bytes))
			stream = append(stream, frame(h, last)...)
			want = append(want, transport.Event{Kind: transport.Received, Landing: 2, Seq: h.seq, Tag: h.tag, Sum: h.sum, Bytes: int(h.bytes)})
			if rapid.Bool().Draw(rt, "grant") {
				stream = append(stream, frame(header{kind: kindGrant, grant: uint32(i)}, nil)...)
			}
		}
		var got []transport.Event
		for len(stream) > 0 {
			n := min(len(stream), rapid.SampledFrom([]int{1, 5, 63, 64, 65, 1000, bufferBytes, 50_000}).Draw(rt, "cut"))
			events, err := w.feed(t, stream[:n])
			if err != nil {
				rt.Fatal(err)
			}
			got, stream = append(got, events...), stream[n:]
		}
		if len(got) != len(want) {
			rt.Fatalf("%d of %d messages came out", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				rt.Fatalf("message %d is %+v, want %+v", i, got[i], want[i])
			}
		}
		if !bytes.Equal(w.areas[2][:len(last)], last) {
			rt.Fatal("the last message's bytes are wrong")
		}
		if limit := w.link.Limit(); limit != uint32(len(want)-1) {
			rt.Fatalf("limit is %d after %d messages", limit, len(want))
		}
		w.intact(t)
	})
}

// TestHostileFrames: what no peer may send breaks the link, names the peer, and writes nothing.
func TestHostileFrames(t *testing.T) {
	ok := header{kind: kindMessage, landing: 0, seq: 1, bytes: 10}
	with := func(change func(*header)) []byte {
		h := ok
		change(&h)
		return frame(h, make([]byte, 20))
	}
	later := frame(header{kind: kindGrant, grant: 5}, nil)
	for name, b := range map[string][]byte{
		"no frame":          []byte("GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: something else\r\n\r\n"),
		"zeros":             make([]byte, 100),
		"kind 0":            with(func(h *header) { h.kind = 0 }),
		"unknown kind":      with(func(h *header) { h.kind = kindOpen + 1 }),
		"second open":       frame(header{kind: kindOpen}, nil),
		"landing":           with(func(h *header) { h.landing = 3 }),
		"huge landing":      with(func(h *header) { h.landing = 1<<32 - 1 }),
		"length":            with(func(h *header) { h.bytes = 101 }),
		"huge length":       with(func(h *header) { h.bytes = 1<<32 - 1 }),
		"empty area":        with(func(h *header) { h.landing, h.bytes = 1, 1 }),
		"item not granted":  with(func(h *header) { h.seq = granted }),
		"item far ahead":    with(func(h *header) { h.seq = 1<<31 - 1 }),
		"grant with length": frame(header{kind: kindGrant, bytes: 10}, make([]byte, 10)),
		"close with tag":    frame(header{kind: kindClose, tag: 1}, nil),
		"grant goes back":   append(later, frame(header{kind: kindGrant, grant: 4}, nil)...),
		"grant wraps back":  frame(header{kind: kindGrant, grant: 1 << 31}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			defer w.close()
			events, err := w.feed(t, b)
			var pe *transport.PeerError
			if !errors.Is(err, transport.ErrProtocol) || !errors.Is(err, transport.ErrPeerLost) || !errors.As(err, &pe) || pe.Peer != 3 {
				t.Errorf("got %v", err)
			}
			if len(events) != 0 {
				t.Errorf("events %v came out", events)
			}
			if w.whole[100] != around {
				t.Error("a landing area was written")
			}
			w.intact(t)
		})
	}
}

// TestHangUp: an end of the stream that was not announced is a loss wherever it comes; what was complete, its padding
// aside, still arrives.
func TestHangUp(t *testing.T) {
	stream := frame(header{kind: kindMessage, bytes: 10}, make([]byte, 10))
	for cut := range len(stream) + 1 {
		w := newWire(t)
		events, err := w.feed(t, stream[:cut])
		if err != nil {
			t.Fatal(err)
		}
		w.hangUp()
		_, err = w.link.Poll(make([]transport.Event, 1))
		if !errors.Is(err, transport.ErrPeerLost) || errors.Is(err, transport.ErrPeerClosed) {
			t.Errorf("cut at %d: got %v", cut, err)
		}
		want := 0
		if cut >= headerBytes+10 {
			want = 1
		}
		if len(events) != want {
			t.Errorf("cut at %d: %d messages", cut, len(events))
		}
		w.close()
	}
}

// TestDeafBell: a bell that can't watch is an error, not a hang.
func TestDeafBell(t *testing.T) {
	w := newWire(t)
	defer w.close()
	w.link.bell = wait.NewChan()
	if _, err := w.link.Poll(make([]transport.Event, 1)); !errors.Is(err, wait.ErrNotSupported) {
		t.Errorf("got %v", err)
	}
}

// FuzzStream feeds a link what no peer would send. It must not panic, nor write outside the landing areas, nor say that
// it received what is not there.
func FuzzStream(f *testing.F) {
	f.Add(frame(header{kind: kindMessage, bytes: 10, grant: 7}, make([]byte, 10)))
	f.Add(append(frame(header{kind: kindMessage, landing: 2, bytes: 9000}, make([]byte, 9000)), frame(header{kind: kindClose}, nil)...))
	f.Add(frame(header{kind: kindMessage, landing: 1}, []byte("HFD")))
	f.Fuzz(func(t *testing.T, in []byte) {
		w := newWire(t)
		defer w.close()
		events, err := w.feed(t, in)
		total := 0
		for _, e := range events {
			total += headerBytes + e.Bytes
			if e.Kind != transport.Received || int(e.Landing) >= len(w.areas) || e.Bytes > len(w.areas[e.Landing]) || !transport.Before(e.Seq, granted) {
				t.Errorf("impossible event %+v", e)
			}
		}
		if total > len(in) {
			t.Errorf("%d bytes gave %d bytes of messages", len(in), total)
		}
		if err != nil && !errors.Is(err, transport.ErrPeerLost) {
			t.Errorf("error %v", err)
		}
		w.intact(t)
	})
}
