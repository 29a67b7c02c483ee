// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// testModel drives both ends with random calls and compares what comes out with a model: a queue for each direction.
func testModel(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		lengths := rapid.Map(rapid.SampledFrom([]int{0, 1, 100, 9000, 70_000, 400_000}), impl.bytes)
		c := pairConfig{
			landings: rapid.SliceOfN(lengths, 1, 6).Draw(rt, "landings"),
			window:   rapid.Uint32Range(1, 6).Draw(rt, "window"),
			grant:    2,
			posts:    rapid.IntRange(1, 5).Draw(rt, "posts"),
		}
		a, b := connectPair(t, impl, ts[0], ts[1], [2]int{0, 1}, fmt.Sprint("model ", run), c)
		defer a.link.Close()
		defer b.link.Close()
		ways := [2]*way{newWay(a, b, c), newWay(b, a, c)}
		either := func(rt *rapid.T) *way { return ways[rapid.IntRange(0, 1).Draw(rt, "way")] }
		rt.Repeat(map[string]func(*rapid.T){
			"post":  func(rt *rapid.T) { either(rt).post(rt) },
			"grant": func(rt *rapid.T) { either(rt).grant(rt) },
			"flush": func(rt *rapid.T) { either(rt).to.flush() },
			"poll": func(rt *rapid.T) {
				from := rapid.IntRange(0, 1).Draw(rt, "end")
				pollOnce(rt, ways[from], ways[1-from], rapid.IntRange(1, 6).Draw(rt, "events"))
			},
		})
		settle(rt, ways)
	})
}

// way is the model of one direction.
type way struct {
	from, to *end
	queue    []posted // posted and not both Sent and Received
	sent     int      // of queue: this many are Sent
	arrived  int      // of queue: this many are Received
	posts    int
	busy     []bool // by landing area of to
	granted  uint32
	limit    uint32 // as from saw it last
	next     uint64 // seeds
}

type posted struct {
	m    transport.Message
	seed uint64
}

func newWay(from, to *end, c pairConfig) *way {
	return &way{from: from, to: to, posts: c.posts, busy: make([]bool, len(c.landings)), granted: item(c.grant), limit: item(c.grant)}
}

func (w *way) post(t *rapid.T) {
	landing := rapid.IntRange(0, len(w.busy)-1).Draw(t, "landing")
	if w.busy[landing] {
		return
	}
	w.next++
	p := posted{seed: w.next, m: transport.Message{
		Landing: uint32(landing), Tag: rapid.Uint32().Draw(t, "tag"), Sum: rapid.Uint32().Draw(t, "sum"),
		Seq:     w.from.link.Limit() - rapid.Uint32Range(0, 3).Draw(t, "seq"), // 0 is one too far
		Payload: w.from.payload(rapid.IntRange(0, len(w.to.areas.landings[landing])).Draw(t, "bytes"), w.next),
	}}
	err := w.from.link.Post(p.m)
	var want error
	switch {
	case !transport.Before(p.m.Seq, w.from.link.Limit()):
		want = transport.ErrNoCredit
	case len(w.queue)-w.sent == w.posts:
		want = transport.ErrPosts
	}
	if !errors.Is(err, want) {
		t.Fatalf("post of item %d, limit %d, %d outstanding: got %v, want %v", p.m.Seq, w.from.link.Limit(), len(w.queue)-w.sent, err, want)
	}
	if want == nil {
		w.queue = append(w.queue, p)
		w.busy[landing] = true
	}
}

func (w *way) grant(t *rapid.T) {
	limit := w.granted + rapid.Uint32Range(0, 5).Draw(t, "more") - 1
	w.to.link.Grant(limit)
	if transport.Before(w.granted, limit) {
		w.granted = limit
	}
}

// pollOnce polls the end where out's messages leave and in's arrive.
func pollOnce(t *rapid.T, out, in *way, n int) int {
	buf := make([]transport.Event, n)
	n, err := out.from.link.Poll(buf)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	for _, ev := range buf[:n] {
		if ev.Kind == transport.Sent {
			out.checkSent(t, ev)
		} else {
			in.checkReceived(t, ev)
		}
	}
	limit := out.from.link.Limit()
	if transport.Before(limit, out.limit) || transport.Before(out.granted, limit) {
		t.Fatalf("limit went from %d to %d, granted is %d", out.limit, limit, out.granted)
	}
	out.limit = limit
	return n
}

func (w *way) checkSent(t *rapid.T, ev transport.Event) {
	if w.sent == len(w.queue) {
		t.Fatalf("%+v was never posted", ev)
	}
	p := w.queue[w.sent]
	w.sent++
	expect(t, ev, p.m, transport.Sent)
	clear(p.m.Payload) // it may be overwritten now
	w.shift()
}

func (w *way) checkReceived(t *rapid.T, ev transport.Event) {
	if w.arrived == len(w.queue) {
		t.Fatalf("%+v was never posted", ev)
	}
	p := w.queue[w.arrived]
	w.arrived++
	expect(t, ev, p.m, transport.Received)
	w.to.areas.check(w.to.t, ev.Landing, ev.Bytes, p.seed)
	w.busy[ev.Landing] = false
	w.shift()
}

func expect(t *rapid.T, ev transport.Event, m transport.Message, kind transport.EventKind) {
	if want := (transport.Event{Kind: kind, Landing: m.Landing, Seq: m.Seq, Tag: m.Tag, Sum: m.Sum, Bytes: len(m.Payload)}); ev != want {
		t.Fatalf("got %+v, want %+v", ev, want)
	}
}

// shift forgets what is through at both ends.
func (w *way) shift() {
	done := min(w.sent, w.arrived)
	w.queue = w.queue[done:]
	w.sent -= done
	w.arrived -= done
}

// settle polls until nothing is left, and checks that every grant has been told.
func settle(t *rapid.T, ways [2]*way) {
	for _, w := range ways {
		w.to.flush()
	}
	quiet := func() bool {
		return len(ways[0].queue) == 0 && len(ways[1].queue) == 0 && ways[0].limit == ways[0].granted && ways[1].limit == ways[1].granted
	}
	await(ways[0].from.t, "end of the run", func() bool {
		pollOnce(t, ways[0], ways[1], 4)
		pollOnce(t, ways[1], ways[0], 4)
		return quiet()
	})
}
