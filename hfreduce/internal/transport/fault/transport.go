// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

// Hit is a fault that was injected into a message.
type Hit struct {
	Rule     string // as Parse reads it
	Action   Action
	From, To int // world ranks
	Landing  uint32
	Seq      uint32
	Message  uint64 // its number among those of the link in this direction, from 1; for Corrupt, among those that arrived
}

// Config says how New wraps a transport.
type Config struct {
	Plan *Plan
	Rank int // world rank of the transport
	// Hit, if it is not nil, is called with each fault, on the goroutine that uses the link. A partition is reported once for
	// each direction, when it begins.
	Hit func(Hit)
}

// New returns inner with the plan's faults in its links: inner itself if the plan has none for the rank's messages. It is
// a transport.Registrar if inner is one.
func New(inner transport.Transport, c Config) transport.Transport {
	if !c.Plan.concerns(c.Rank) {
		return inner
	}
	t := &Transport{Transport: inner, cfg: c, pairs: map[int]*pair{}}
	return t.orRegistrar()
}

// concerns reports whether a rule can mean a message to or from the rank.
func (p *Plan) concerns(rank int) bool {
	for i := range p.rules {
		r := &p.rules[i]
		self := uint64(rank)
		if r.action == Partition && (r.sides[0].has(self) || r.sides[1].has(self)) ||
			!r.action.ofProcess() && r.action != Partition && (r.rank.has(self) || r.peer.has(self)) {
			return true
		}
	}
	return false
}

// Transport is a transport whose links have faults.
type Transport struct {
	transport.Transport
	cfg Config

	mu    sync.Mutex
	pairs map[int]*pair // by peer
}

// orRegistrar returns t as a Registrar if what it wraps is one.
func (t *Transport) orRegistrar() transport.Transport {
	if r, ok := t.Transport.(transport.Registrar); ok {
		return &struct {
			*Transport
			transport.Registrar
		}{t, r}
	}
	return t
}

// pair is what all links to one peer share: what has been done by rules that are bounded. Links are used by several
// goroutines, one each.
type pair struct {
	mu    sync.Mutex
	links uint64
	hits  []uint64    // by rule
	began []time.Time // by rule, of partitions: of what is sent to the peer
}

// Connect implements transport.Transport. A link that no rule can mean is the inner one.
func (t *Transport) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	inner, err := t.Transport.Connect(ctx, peer, key, cfg)
	if err != nil {
		return nil, err
	}
	out, in := t.cfg.Plan.between(t.cfg.Rank, peer)
	if len(out) == 0 && len(in) == 0 {
		return inner, nil
	}
	return t.wrap(inner, &cfg, out, in), nil
}

// between returns the numbers of the rules for what a rank sends to another one, and for what it receives from it.
func (p *Plan) between(self, peer int) (out, in []int) {
	for i := range p.rules {
		r := &p.rules[i]
		if r.action == Corrupt {
			if r.crosses(peer, self) {
				in = append(in, i)
			}
		} else if r.crosses(self, peer) {
			out = append(out, i)
		}
	}
	return out, in
}

// wrap returns a link with faults. It has the optional interfaces of the inner one, and transport.Prober.
func (t *Transport) wrap(inner transport.Link, cfg *transport.LinkConfig, out, in []int) transport.Link {
	l := newLink(t, inner, cfg, out, in)
	redirector, redirects := inner.(transport.Redirector)
	selective, selects := inner.(transport.Selective)
	l.redirector = redirector
	switch {
	case redirects && selects:
		return &struct {
			redirecting
			transport.Selective
		}{redirecting{l}, selective}
	case redirects:
		return &redirecting{l}
	case selects:
		return &struct {
			*link
			transport.Selective
		}{l, selective}
	}
	return l
}

// peerOf returns what the links to a peer share, and the number of a new one.
func (t *Transport) peerOf(peer int) (*pair, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pairs[peer]
	if p == nil {
		n := len(t.cfg.Plan.rules)
		p = &pair{hits: make([]uint64, n), began: make([]time.Time, n)}
		t.pairs[peer] = p
	}
	p.links++
	return p, p.links
}

// take counts a hit of a rule, unless there were so many already.
func (p *pair) take(rule int, times uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if times > 0 && p.hits[rule] >= times {
		return false
	}
	p.hits[rule]++
	return true
}

// begin notes that a partition begins now, unless it has begun before.
func (p *pair) begin(rule int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.began[rule].IsZero() {
		return false
	}
	p.began[rule] = time.Now()
	return true
}

// since returns when a partition began.
func (p *pair) since(rule int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began[rule]
}
