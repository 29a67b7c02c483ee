// SPDX-License-Identifier: Apache-2.0

package transporttest

import (
	"context"
	"errors"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// connected is the result of a Connect on another goroutine.
type connected struct {
	link transport.Link
	err  error
}

func connectAsync(ctx context.Context, t transport.Transport, peer int, key string, cfg transport.LinkConfig) <-chan connected {
	c := make(chan connected, 1)
	go func() {
		l, err := t.Connect(ctx, peer, key, cfg)
		c <- connected{l, err}
	}()
	return c
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testConnectLate: each side in turn comes second; who comes first waits.
func testConnectLate(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	for first := range 2 {
		e := [2]*end{newEnd(t, impl, pairConfig{}), newEnd(t, impl, pairConfig{})}
		waiting := connectAsync(within(t), ts[first], 1-first, "late", e[first].config(pairConfig{}))
		select {
		case c := <-waiting:
			t.Fatalf("rank %d's Connect returned before its peer's: %v", first, c.err)
		default:
		}
		link, err := ts[1-first].Connect(within(t), first, "late", e[1-first].config(pairConfig{}))
		c := <-waiting
		if err != nil || c.err != nil {
			t.Fatalf("connect: %v; %v", err, c.err)
		}
		link.Close()
		c.link.Close()
	}
}

// testConnectCancelled: a Connect whose peer does not come ends with its context, and leaves nothing behind: the same
// key can be used again.
func testConnectCancelled(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	reason := errors.New("enough")
	for side := range 2 {
		ctx, cancel := context.WithCancelCause(context.Background())
		c := connectAsync(ctx, ts[side], 1-side, "again", newEnd(t, impl, pairConfig{}).config(pairConfig{}))
		cancel(reason)
		if got := <-c; !errors.Is(got.err, reason) || got.link != nil {
			t.Errorf("rank %d: got %v, %v; want the context's cause", side, got.link, got.err)
		}
	}
	a, b := connectPair(t, impl, ts[0], ts[1], [2]int{0, 1}, "again", pairConfig{})
	a.post(transport.Message{Seq: start, Payload: []byte{1}})
	await(t, "message", func() bool { return b.count(transport.Received) == 1 }, a, b)
}

// testConnectClosed: Close of the transport ends a Connect that waits and refuses later ones; open links stay.
func testConnectClosed(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	a, b := connectPair(t, impl, ts[0], ts[1], [2]int{0, 1}, "open", pairConfig{})
	for side := range 2 {
		cfg := newEnd(t, impl, pairConfig{}).config(pairConfig{})
		c := connectAsync(within(t), ts[side], 1-side, "never", cfg)
		if err := ts[side].Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if got := <-c; !errors.Is(got.err, transport.ErrClosed) {
			t.Errorf("rank %d: a waiting Connect returned %v", side, got.err)
		}
		if _, err := ts[side].Connect(within(t), 1-side, "later", cfg); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("rank %d: a later Connect returned %v", side, err)
		}
		if err := ts[side].Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	}
	a.post(transport.Message{Seq: start, Payload: []byte{1}})
	await(t, "message over an open link", func() bool { return b.count(transport.Received) == 1 }, a, b)
}

// testConnectKeys: ends with different keys do not meet, whatever the order they come in.
func testConnectKeys(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	keys := []string{"k1", "k2", "", "k1/lane=2"}
	var left, right []<-chan connected
	var bells []*end
	for i := range keys {
		a, b := newEnd(t, impl, pairConfig{}), newEnd(t, impl, pairConfig{})
		bells = append(bells, a, b)
		left = append(left, connectAsync(within(t), ts[0], 1, keys[i], a.config(pairConfig{})))
		right = append(right, connectAsync(within(t), ts[1], 0, keys[len(keys)-1-i], b.config(pairConfig{})))
	}
	for i := range keys {
		l, r := <-left[i], <-right[len(keys)-1-i]
		if l.err != nil || r.err != nil {
			t.Fatalf("connect %q: %v; %v", keys[i], l.err, r.err)
		}
		a, b := bells[2*i], bells[2*(len(keys)-1-i)+1]
		a.link, b.link = l.link, r.link
		b.link.Grant(item(1))
		b.flush()
		await(t, "grant", func() bool { return a.link.Limit() == item(1) }, a, b)
		a.post(transport.Message{Seq: start, Tag: uint32(i)})
		await(t, "message", func() bool { return b.count(transport.Received) == 1 }, a, b)
		if tag := b.take(transport.Received)[0].Tag; tag != uint32(i) {
			t.Errorf("key %q got the message of key %q", keys[i], keys[tag])
		}
		a.link.Close()
		b.link.Close()
	}
}

// testConnectNobody: ranks that do not exist, and the own one.
func testConnectNobody(t *testing.T, impl Implementation) {
	ts := impl.New(t, 2)
	for _, peer := range []int{-1, 1, 2, 1 << 40} {
		cfg := newEnd(t, impl, pairConfig{}).config(pairConfig{})
		if l, err := ts[1].Connect(within(t), peer, "k", cfg); err == nil || l != nil {
			t.Errorf("connect of rank 1 to rank %d: %v, %v", peer, l, err)
		}
	}
}
