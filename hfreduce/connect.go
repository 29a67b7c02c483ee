// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/tcp"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// arenaBytes is what Alloc can give one rank: address space and file size, not memory.
const arenaBytes = 1 << 38

// Init meets the other ranks of the job and returns the communicator of all of them. It blocks until all have come, at
// most for Options.InitTimeout. Every rank of the job calls it once; a process may hold several ranks, each with its own
// Init.
func Init(ctx context.Context, o Options) (*Comm, error) {
	found, err := o.resolve(os.Getenv)
	if err != nil {
		return nil, &OpError{Op: "Init", Rank: o.Rank, Err: err}
	}
	o.Logger.Info("init", "launcher", found.Launcher, "rendezvous", found.Rendezvous, "options", o.String(), "kernel", kernelName())
	deadline := time.Now().Add(o.InitTimeout)
	f, err := meet(ctx, o, &found)
	if err != nil {
		return nil, &OpError{Op: "Init", Rank: o.Rank, Err: err}
	}
	if o.InitTimeout > 0 { // Join has kept it by itself
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline, fmt.Errorf("%w: the ranks met, but had no communicator within InitTimeout %v", ErrTimeout, o.InitTimeout))
		defer cancel()
	}
	members := make([]int, o.WorldSize)
	for r := range members {
		members[r] = r
	}
	c, err := newComm(ctx, &sharedFabric{fabric: f}, o, worldKey, members, o.Rank)
	if err != nil {
		f.session.Abort("", verdict{Kind: verdictFault, Rank: o.Rank, Text: err.Error()}.encode())
		return nil, &OpError{Op: "Init", Rank: o.Rank, Err: errors.Join(err, f.close(ctx))}
	}
	return c, nil
}

// resolve fills the options from the environment and the defaults and checks them. It returns who launched the ranks, and where or
// how they meet.
func (o *Options) resolve(getenv func(string) string) (found bootstrap.Found, err error) {
	if found, err = o.fromEnvironment(getenv); err != nil {
		return found, invalidf("environment: %w", err)
	}
	if len(found.Rendezvous) == 0 && found.Meet == nil && o.WorldSize > 1 {
		return found, invalidf("no rendezvous address: set Options.Rendezvous or HFREDUCE_RENDEZVOUS to host:port of rank 0")
	}
	o.defaults()
	return found, o.validate()
}

// processFabric connects ranks that met through package bootstrap.
type processFabric struct {
	session    *bootstrap.Session
	self       int
	peers      []bootstrap.PeerInfo
	transport_ transport.Transport
	log        *slog.Logger
	outsiders  outsiders
	rdma       bool   // preferred or demanded
	nic        string // the adapter that was asked for, "" for none in particular
	mates      mates
}

func meet(ctx context.Context, o Options, found *bootstrap.Found) (*processFabric, error) {
	ports, err := parsePortRange(o.PortRange)
	if err != nil {
		return nil, err
	}
	plan, err := o.faults()
	if err != nil {
		return nil, err
	}
	secure, err := o.loadTLS()
	if err != nil {
		return nil, err
	}
	f := &processFabric{self: o.Rank, log: o.Logger, rdma: o.Transport != TransportTCP}
	s, err := bootstrap.Join(ctx, bootstrap.Config{
		Rank: o.Rank, WorldSize: o.WorldSize, Rendezvous: found.Rendezvous, Meet: found.Meet, JobID: o.JobID, Secret: o.Secret, TLS: secure, Node: o.Node,
		Interfaces: o.Interfaces, PortRange: ports, Timeout: o.InitTimeout, Heartbeat: o.HeartbeatTimeout, Logger: o.Logger,
		Judge: f.judge,
	})
	if err != nil {
		return nil, meetingError(err)
	}
	f.session, f.peers = s, s.Peers()
	if len(o.Verbs.Devices) > 0 {
		f.nic = o.Verbs.Devices[0]
	}
	side := tcp.New(tcp.Config{
		Rank: o.Rank, Listener: s.Listener(), Identity: s.Identity(),
		Peers: f.addrs, Near: f.near, Heartbeat: o.HeartbeatTimeout, Logger: o.Logger,
	})
	if f.transport_ = side; o.Transport != TransportTCP {
		f.transport_ = f.overRDMA(&o, side)
	}
	f.transport_ = o.injectFaults(plan, o.Rank, f.transport_)
	return f, nil
}

// addrs returns where a rank may be reached.
func (f *processFabric) addrs(rank int) []netip.AddrPort { return f.peers[rank].Addrs }

// near reports whether a rank runs on this one's machine, whatever node it counts as.
func (f *processFabric) near(rank int) bool {
	return f.peers[rank].Seat.Machine == f.peers[f.self].Seat.Machine
}

// meetingError makes the bootstrap's errors testable as those of this package.
func meetingError(err error) error {
	for inner, outer := range map[error]error{
		bootstrap.ErrTimeout: ErrTimeout, bootstrap.ErrMismatch: ErrMismatch, bootstrap.ErrPeerLost: ErrPeerLost, bootstrap.ErrClosed: ErrClosed,
		bootstrap.ErrInvalid: ErrInvalid,
	} {
		if errors.Is(err, inner) && !errors.Is(err, outer) {
			return fmt.Errorf("%w: %w", outer, err)
		}
	}
	return err
}

func (f *processFabric) rank() int { return f.self }

func (f *processFabric) info(rank int) (RankInfo, string) {
	p := f.peers[rank]
	return RankInfo{Rank: rank, Host: p.Host, PID: p.PID, Machine: p.Seat.Machine}, p.HostID
}

func (f *processFabric) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	all, err := f.session.Exchange(ctx, key, members, mine)
	if err != nil {
		return nil, meetingError(err)
	}
	return all, nil
}

func (f *processFabric) segment(ctx context.Context, name string, index int, ranks []int, g *engine.Geometry) (*hostmem.Segment, []wait.Bell, error) {
	fd, err := wait.NewEventFD()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = unix.Close(fd) }() // the segment holds a duplicate
	s, err := hostmem.Join(ctx, hostmem.Config{Name: name, Index: index, Size: len(ranks), Bytes: g.Bytes(), ArenaBytes: arenaBytes, EventFD: fd, Prepare: f.prepare(g), Stranger: f.stranger})
	if err != nil {
		return nil, nil, err
	}
	f.watchMates(s, ranks)
	bells := make([]wait.Bell, len(ranks))
	for i := range bells {
		bells[i] = wait.NewShared(g.Bell(s.Base(), i), s.EventFD(i))
	}
	return s, bells, nil
}

func (f *processFabric) transport() transport.Transport { return f.transport_ }

func (f *processFabric) tell(scope string, v verdict) {
	if v.Kind == noticeWaiting { // a job that often waits for a slow rank gives many: they must not be kept
		f.session.Notify(scope, v.encode())
		return
	}
	f.session.Abort(scope, v.encode())
}

func (f *processFabric) listen(l func(scope string, v verdict)) (cancel func()) {
	return f.session.Subscribe(func(e bootstrap.Event) {
		if e.Kind == bootstrap.PeerLost {
			l("", verdict{Kind: noticeLost, Rank: e.Rank, Text: e.Text})
			return
		}
		l(e.Scope, decodeVerdict(e.Rank, e.Text))
	})
}

func (f *processFabric) report(scope string, members []int, r report) {
	f.session.Report(scope, members, encode(r, r.Text))
}

func (f *processFabric) answering(know func(scope string, r report) (answer, bool)) {
	f.session.Answer(func(scope, text string) string {
		var r report
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return ""
		}
		if a, ok := know(scope, r); ok {
			return a.encode()
		}
		return ""
	})
}

// judge is the hub's: peers are known before any communicator can have a fault.
func (f *processFabric) judge(k bootstrap.Case) string {
	d := dispute{members: k.Members, reporter: k.Reporter, lost: k.Lost, closed: k.Closed, answers: map[int]answer{}, info: func(world int) RankInfo {
		i, _ := f.info(world)
		return i
	}}
	if err := json.Unmarshal([]byte(k.Report), &d.report); err != nil {
		d.report = report{Kind: verdictFault, Accused: -1, Text: k.Report}
	}
	stranger := func(rank int) bool { return !slices.Contains(k.Members, rank) }
	if stranger(d.report.Accused) {
		d.report.Accused = -1
	}
	for m, text := range k.Answers {
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil { // it does not know of the communicator any more
			d.closed = append(d.closed, m)
			continue
		}
		a.Needs = slices.DeleteFunc(a.Needs, func(n need) bool { return stranger(n.Rank) })
		d.answers[m] = a
	}
	return judge(&d).encode()
}

func (f *processFabric) judges() int { return f.session.Hub() }

func (f *processFabric) rollCall(ctx context.Context, key string, members []int, patience time.Duration) ([]int, int, error) {
	r, err := f.session.RollCall(ctx, key, members, patience, nil)
	if err != nil {
		return nil, 0, meetingError(err)
	}
	return r.Ranks, r.Epoch, nil
}

// policy looks at the ranks with which this one shares processors, whatever node they count as.
func (f *processFabric) policy() wait.Policy { return wait.DefaultPolicy(sharing(f.seats(), f.self)) }

func (f *processFabric) share() (ranks, processors int) {
	ranks, processors, _ = sharing(f.seats(), f.self)
	return ranks, processors
}

func (f *processFabric) seats() []bootstrap.Seat {
	seats := make([]bootstrap.Seat, len(f.peers))
	for rank, p := range f.peers {
		seats[rank] = p.Seat
	}
	return seats
}

// sharing returns with how many ranks, itself included, a rank shares how many processors, and whether some of them are of
// its own process. A rank that does not know its processors may run on any of the machine's.
func sharing(seats []bootstrap.Seat, self int) (ranks, processors int, crowded bool) {
	mine := seats[self]
	all := mine.CPUs
	for rank, s := range seats {
		apart := mine.CPUs != "" && s.CPUs != "" && s.CPUs.Intersection(mine.CPUs) == ""
		if s.Machine != mine.Machine || apart {
			continue
		}
		ranks++
		all = all.Union(s.CPUs)
		crowded = crowded || rank != self && s.Process == mine.Process
	}
	return ranks, all.Count(), crowded
}

func (f *processFabric) close(ctx context.Context) error {
	f.mates.close()
	return errors.Join(f.transport_.Close(), f.session.Close(ctx))
}
