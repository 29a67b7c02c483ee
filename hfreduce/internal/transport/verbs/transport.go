// SPDX-License-Identifier: Apache-2.0

// Package verbs carries messages between ranks by RDMA writes over reliable connected queue pairs (InfiniBand, RoCE), and
// over TCP where a pair of ranks has no RDMA.
//
// # The way of a link into being
//
// Two ranks meet over a TCP connection, as those of package tcp do, and tell each other over it: what they offer (offer.go:
// ports, GIDs, or why there is none), the queue pairs that both have made for the ways that follow from the two offers,
// that these are connected, and that a whole packet has arrived over each of them (connect.go). Whatever goes wrong in
// that leads both to the same decision: the connection becomes a TCP link, or an error, if only RDMA will do. Afterwards
// the connection stays beside the queue pairs: its end tells at once that the peer's process has died, which a queue pair
// notices only when it sends.
//
// # The way of a message
//
// The receiver has an inbox with an entry for each landing area, and a queue pair consumes a receive for each message
// (inbox.go). A small message is one RDMA write with immediate of header and payload into the entry, from which the
// receiver copies it to the area. A larger one is a write of the header into the entry, and a write with immediate of the
// payload to the area itself. The immediate says which area and which of the two. Grants travel in every header, or alone.
// Writes of one queue pair arrive in order and the completion comes after the data, so memory is never polled, which makes
// relaxed ordering safe. With several queue pairs messages take turns, and the receiver restores the order.
//
// Read on: transport.go, devices.go, register.go (memory), offer.go, connect.go (meeting), link.go, lane.go, inbox.go
// (data).
package verbs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/rdma"
)

// Name is the transport's name.
const Name = "verbs"

// The defaults of Config.
const (
	DefaultTimeout = 18
	DefaultRetry   = 6
)

// MaxQueuePairs bounds the queue pairs of a link.
const MaxQueuePairs = 64

// Side is what two ranks meet over, and what carries data where RDMA does not: package tcp's transport.
type Side interface {
	// Meet returns a connection to peer once the peer has called Meet with the same key.
	Meet(ctx context.Context, peer int, key string) (net.Conn, error)
	// Adopt makes a link of such a connection.
	Adopt(conn net.Conn, peer int, cfg transport.LinkConfig) (transport.Link, error)
	// Close ends what waits in Meet.
	Close() error
}

// Config is what a rank's transport needs to know. Zero means the default, or what the device says.
type Config struct {
	Rank     int
	Side     Side           // closed with the transport
	Required bool           // a link that can't use RDMA is an error, not a TCP link
	Logger   *slog.Logger   // nil: none
	Networks []netip.Prefix // the machine's addresses with their networks

	Devices      []string // "mlx5_0" or "mlx5_0:1", in this order; empty: the active ports nearest to the rank
	GIDIndex     int      // of every port's GID table; negative: chosen by rule (RoCE v2, the peer's network)
	PKeyIndex    int      // of every port's partition key table
	ServiceLevel int      // 0..15
	TrafficClass int      // 0..255, the IP header's TOS field on RoCE v2
	MTU          int      // bytes, at most the ports'
	Timeout      int      // exponent: a packet is sent again after 4.096 us * 2^Timeout
	Retry        int      // how often; 1..6, since some devices take 7 for ever
	QueuePairs   int      // queue pairs for each link, at least

	NUMANode      int // where the rank runs, to choose devices; negative if it is not known
	Local, Locals int // this rank's number among the ranks of its node, and how many they are: they share the devices
	Near, Nears   int // the same among those on its NUMA node, which share the devices there
}

// LostAfter returns how long a queue pair sends again before it says that the peer can't be reached.
func (c *Config) LostAfter() time.Duration {
	return time.Duration(float64(1+c.Retry) * 4.096 * math.Exp2(float64(c.Timeout)) * float64(time.Microsecond))
}

// Transport makes the links of one rank.
type Transport struct {
	cfg  Config
	log  *slog.Logger
	life context.Context // ends with Close
	end  context.CancelCauseFunc

	open    sync.Once
	ports   []*port // set by open
	refusal error   // why there are none

	regions atomic.Pointer[[]*region]
	mu      sync.Mutex // regions is changed, lanes, told, closed
	lanes   map[laneID]*Link
	told    map[string]bool // reasons for TCP that were logged
	closed  bool
	unfit   error // the latest memory that could not be registered
}

// laneID names a queue pair: numbers are a device's.
type laneID struct {
	device string
	qp     uint32
}

var (
	_ transport.Transport = (*Transport)(nil)
	_ transport.Registrar = (*Transport)(nil)
)

// New returns the transport of a rank. Devices are opened when they are first needed.
func New(cfg Config) *Transport {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Retry == 0 {
		cfg.Retry = DefaultRetry
	}
	t := &Transport{cfg: cfg, log: cfg.Logger, lanes: map[laneID]*Link{}, told: map[string]bool{}}
	t.life, t.end = context.WithCancelCause(context.Background())
	t.regions.Store(&[]*region{})
	return t
}

// Name returns "verbs".
func (t *Transport) Name() string { return Name }

// ready opens the devices and reports why RDMA can't be used on this side, nil if it can.
func (t *Transport) ready() error {
	t.open.Do(func() {
		if t.ports, t.refusal = openPorts(&t.cfg); t.refusal != nil {
			return
		}
		for _, p := range t.ports {
			p.watch(t)
		}
	})
	return t.refusal
}

// Connect implements transport.Transport.
func (t *Transport) Connect(ctx context.Context, peer int, key string, cfg transport.LinkConfig) (transport.Link, error) {
	conn, err := t.cfg.Side.Meet(ctx, peer, key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.life, func() { cancel(context.Cause(t.life)) })()
	link, refusal, err := t.negotiate(ctx, conn, peer, &cfg)
	switch {
	case err != nil && ctx.Err() == nil:
		err = &transport.PeerError{Peer: peer, Transport: Name, Addr: conn.RemoteAddr().String(), Err: errors.Join(err, conn.Close())}
	case err != nil:
		err = errors.Join(err, conn.Close())
	case link != nil:
		return link, nil
	case t.cfg.Required:
		err = errors.Join(fmt.Errorf("%w: %s", rdma.ErrNotSupported, refusal), conn.Close())
	default:
		t.explain(peer, refusal)
		return t.cfg.Side.Adopt(conn, peer, cfg)
	}
	return nil, fmt.Errorf("verbs: connect rank %d to rank %d: %w", t.cfg.Rank, peer, err)
}

// explain logs once for each reason why links go over TCP: that a machine without RDMA does so is no surprise, unless its
// devices were named.
func (t *Transport) explain(peer int, refusal string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told[refusal] {
		t.told[refusal] = true
		level := slog.LevelWarn
		if errors.Is(t.refusal, rdma.ErrNotSupported) && len(t.cfg.Devices) == 0 {
			level = slog.LevelInfo
		}
		t.log.Log(context.Background(), level, "link goes over TCP", "peer", peer, "cause", refusal)
	}
}

// alarm tells links of an event of a device: one queue pair's, or all of the device's.
func (t *Transport) alarm(device string, qp uint32, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, l := range t.lanes {
		if id.device == device && (qp == 0 || id.qp == qp) {
			l.alarm.CompareAndSwap(nil, &cause)
			l.bell.Ring()
		}
	}
}

// enlist makes a link's queue pairs get their events, until delist.
func (t *Transport) enlist(l *Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range l.lanes {
		t.lanes[l.lanes[i].id()] = l
	}
}

func (t *Transport) delist(l *Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range l.lanes {
		delete(t.lanes, l.lanes[i].id())
	}
}

// Close implements transport.Transport. Devices close with the last of their links and registrations.
func (t *Transport) Close() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if !first {
		return nil
	}
	t.end(transport.ErrClosed)
	errs := []error{t.cfg.Side.Close()}
	t.open.Do(func() { t.refusal = transport.ErrClosed })
	for _, p := range t.ports {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}
