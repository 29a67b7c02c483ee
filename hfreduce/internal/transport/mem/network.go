// SPDX-License-Identifier: Apache-2.0

// Package mem is the transport between ranks that are goroutines of one process: for tests, simulations of many nodes,
// and fake time (testing/synctest). A post copies into the receiver's landing area at once, as RDMA does, so whoever
// reads an area too early or writes one too late is caught by the race detector.
package mem

import (
	"context"
	"fmt"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// Name is the transport's name.
const Name = "mem"

// Network joins the ranks of a world.
type Network struct {
	ranks []*Transport

	mu      sync.Mutex
	waiting map[meeting]*Link // the end that came first
}

// meeting names a link: its two ranks, the smaller one first, and the key.
type meeting struct {
	low, high int
	key       string
}

// NewNetwork returns a network of n ranks.
func NewNetwork(n int) *Network {
	w := &Network{waiting: map[meeting]*Link{}}
	for r := range n {
		w.ranks = append(w.ranks, &Transport{network: w, rank: r, closed: make(chan struct{})})
	}
	return w
}

// Transport returns the transport of a rank of [0,n).
func (w *Network) Transport(rank int) *Transport { return w.ranks[rank] }

// Transport is one rank's end of a Network.
type Transport struct {
	network *Network
	rank    int
	once    sync.Once
	closed  chan struct{}
}

var _ transport.Transport = (*Transport)(nil)

// Name returns "mem".
func (t *Transport) Name() string { return Name }

// Connect implements transport.Transport.
func (t *Transport) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	if peer < 0 || peer >= len(t.network.ranks) || peer == t.rank {
		return nil, fmt.Errorf("mem: connect rank %d to rank %d: no such peer among %d ranks", t.rank, peer, len(t.network.ranks))
	}
	if err := context.Cause(ctx); err != nil {
		return nil, t.gaveUp(peer, err)
	}
	l, where := newLink(t.rank, peer, &cfg), meeting{min(t.rank, peer), max(t.rank, peer), key}
	met, err := t.network.meet(where, l, t.closed)
	if err != nil || met {
		return l.orNil(err)
	}
	select {
	case <-l.joined:
		return l, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-t.closed:
		err = transport.ErrClosed
	}
	if !t.network.leave(where, l) {
		return l, nil // the peer came just now and counts on the link
	}
	return nil, t.gaveUp(peer, err)
}

func (t *Transport) gaveUp(peer int, err error) error {
	return fmt.Errorf("mem: connect rank %d to rank %d: %w", t.rank, peer, err)
}

// Close implements transport.Transport.
func (t *Transport) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// meet joins l with the end that waits for it, or leaves it waiting.
func (w *Network) meet(where meeting, l *Link, closed <-chan struct{}) (met bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-closed:
		return false, fmt.Errorf("mem: connect rank %d to rank %d: %w", l.self, l.peer, transport.ErrClosed)
	default:
	}
	other := w.waiting[where]
	switch {
	case other == nil:
		w.waiting[where] = l
		return false, nil
	case other.self == l.self:
		return false, fmt.Errorf("mem: rank %d connects to rank %d twice with key %q", l.self, l.peer, where.key)
	}
	delete(w.waiting, where)
	l.other, other.other = other, l
	close(other.joined)
	return true, nil
}

// leave takes a waiting end back; it reports false if the peer has joined it already.
func (w *Network) leave(where meeting, l *Link) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[where] != l {
		return false
	}
	delete(w.waiting, where)
	return true
}
