// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/mem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// localArenaBytes is what Alloc can give each rank of NewLocal.
const localArenaBytes = 1 << 36

// NewLocal returns the communicators of a world whose ranks are goroutines of this process, for tests and simulations:
// ranks r with equal nodeOf[r] are on one virtual node. Ranks of one node share memory, nodes talk over an in-memory
// transport. Of o only ChunkBytes, Slots, OnePassBytes, the options for GPUs, Checksum, VerifyResults, Timeout, InitTimeout,
// Fault and Logger count; Fault cannot kill or stop a rank, which has no process of its own. Each Comm must be used by its own goroutine, as if it
// were a process.
func NewLocal(nodeOf []int, o Options) ([]*Comm, error) {
	o.Rank, o.WorldSize, o.Transport = 0, len(nodeOf), ""
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	o.defaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	plan, err := o.faults()
	if err != nil {
		return nil, err
	}
	if rule := plan.NeedsProcesses(); rule != "" {
		return nil, invalidf("NewLocal: option Fault: %q needs ranks that are processes; all ranks would be gone", rule)
	}
	w := newLocalWorld(nodeOf)
	comms, errs := make([]*Comm, len(nodeOf)), make([]error, len(nodeOf))
	members := make([]int, len(nodeOf))
	for r := range members {
		members[r] = r
	}
	var wg sync.WaitGroup
	for r := range nodeOf {
		wg.Go(func() {
			f := &sharedFabric{fabric: &localFabric{world: w, self: r, transport_: o.injectFaults(plan, r, w.network.Transport(r))}}
			comms[r], errs[r] = newComm(context.Background(), f, o, worldKey, members, r)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, invalidf("NewLocal: %w", err)
		}
	}
	return comms, nil
}

// localWorld is what the ranks of NewLocal share.
type localWorld struct {
	nodeOf  []int
	network *mem.Network

	mu        sync.Mutex
	meetings  map[string]*meeting
	segments  map[string]*localSegment
	listeners map[int]func(scope string, v verdict)
	nextID    int
	answers   []func(scope string, r report) (answer, bool) // by rank
	judged    map[string]bool                               // scopes
	rolls     map[string]int                                // number of the next roll call of a key
	cases     sync.WaitGroup                                // that are being judged
}

// meeting is one exchange.
type meeting struct {
	given   [][]byte
	waits   []int // how many of each member
	missing int
	round   int           // how often ranks have met by its key, this time included
	all     chan struct{} // closed when nothing is missing
}

// localSegment is a node's memory, made by the first member that comes.
type localSegment struct {
	members []*hostmem.Segment
	bells   []wait.Bell
	taken   int
}

func newLocalWorld(nodeOf []int) *localWorld {
	return &localWorld{
		nodeOf: nodeOf, network: mem.NewNetwork(len(nodeOf)),
		meetings: map[string]*meeting{}, segments: map[string]*localSegment{}, listeners: map[int]func(string, verdict){},
		answers: make([]func(string, report) (answer, bool), len(nodeOf)), judged: map[string]bool{}, rolls: map[string]int{},
	}
}

// localFabric is one rank's end of a localWorld.
type localFabric struct {
	world      *localWorld
	self       int
	transport_ transport.Transport
}

func (f *localFabric) rank() int { return f.self }

func (f *localFabric) info(rank int) (RankInfo, string) {
	return RankInfo{Rank: rank, Host: fmt.Sprintf("node%d", f.world.nodeOf[rank]), PID: os.Getpid(), Machine: "local"}, fmt.Sprint(f.world.nodeOf[rank])
}

func (f *localFabric) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	m, err := f.meet(ctx, key, members, mine)
	if err != nil {
		return nil, err
	}
	return m.given, nil
}

// meet waits until all members have come. A rank that gives up waiting for a roll call has not come.
func (f *localFabric) meet(ctx context.Context, key string, members []int, mine []byte) (*meeting, error) {
	w := f.world
	w.mu.Lock()
	m := w.meetings[key]
	if m == nil {
		m = &meeting{given: make([][]byte, len(members)), waits: make([]int, len(members)), round: 1, missing: len(members), all: make(chan struct{})}
		w.meetings[key] = m
	}
	i := slices.Index(members, f.self)
	m.given[i] = mine
	if m.waits[i]++; m.waits[i] == 1 {
		m.missing-- // the key of an exchange is used once
	}
	if m.missing == 0 {
		delete(w.meetings, key)
		if w.rolls[key] > 0 {
			w.rolls[key]++
			m.round = w.rolls[key] - 1
		}
		close(m.all)
	}
	w.mu.Unlock()
	select {
	case <-m.all:
		return m, nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.missing == 0 { // it is too late to go
		return m, nil
	}
	if m.waits[i]--; m.waits[i] == 0 && w.rolls[key] > 0 { // what was given to an exchange stays
		m.missing++
	}
	return nil, context.Cause(ctx)
}

func (f *localFabric) segment(_ context.Context, name string, index int, ranks []int, g *engine.Geometry) (*hostmem.Segment, []wait.Bell, error) {
	w, size := f.world, len(ranks)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.segments[name]
	if s == nil {
		s = &localSegment{members: hostmem.NewLocal(size, g.Bytes(), localArenaBytes), bells: make([]wait.Bell, size)}
		for i := range s.bells {
			s.bells[i] = wait.NewChan()
		}
		w.segments[name] = s
	}
	if s.taken++; s.taken == size {
		delete(w.segments, name)
	}
	return s.members[index], s.bells, nil
}

func (f *localFabric) transport() transport.Transport { return f.transport_ }

func (f *localFabric) tell(scope string, v verdict) {
	f.world.mu.Lock()
	listeners := make([]func(string, verdict), 0, len(f.world.listeners))
	for _, l := range f.world.listeners {
		listeners = append(listeners, l)
	}
	f.world.mu.Unlock()
	for _, l := range listeners {
		l(scope, v)
	}
}

func (f *localFabric) listen(l func(scope string, v verdict)) (cancel func()) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextID
	w.nextID++
	w.listeners[id] = l
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.listeners, id)
	}
}

func (f *localFabric) answering(know func(scope string, r report) (answer, bool)) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	f.world.answers[f.self] = know
}

// report asks all members, as a hub does, and tells all ranks what follows.
func (f *localFabric) report(scope string, members []int, r report) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.judged[scope] {
		return
	}
	w.judged[scope] = true
	know := slices.Clone(w.answers)
	w.cases.Go(func() {
		d := dispute{members: members, reporter: f.self, report: r, answers: map[int]answer{}, info: func(world int) RankInfo {
			i, _ := f.info(world)
			return i
		}}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, m := range members {
			wg.Go(func() {
				a, ok := know[m](scope, r)
				mu.Lock()
				defer mu.Unlock()
				if ok {
					d.answers[m] = a
				} else {
					d.closed = append(d.closed, m)
				}
			})
		}
		wg.Wait()
		f.tell(scope, judge(&d))
	})
}

func (f *localFabric) judges() int { return 0 }

// rollCall waits for all members: ranks of one process live and die together.
func (f *localFabric) rollCall(ctx context.Context, key string, members []int, patience time.Duration) ([]int, int, error) {
	w := f.world
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w: not all ranks came within %v", ErrTimeout, patience))
	defer cancel()
	w.mu.Lock()
	w.rolls[key] = max(1, w.rolls[key])
	w.mu.Unlock()
	m, err := f.meet(ctx, key, members, nil)
	if err != nil {
		return nil, 0, err
	}
	return slices.Clone(members), m.round, nil
}

func (f *localFabric) strangers() (uint64, []RefusedStats) { return 0, nil }

func (f *localFabric) policy() wait.Policy {
	return wait.LocalPolicy(len(f.world.nodeOf), runtime.GOMAXPROCS(0))
}

func (f *localFabric) share() (ranks, processors int) {
	return len(f.world.nodeOf), runtime.GOMAXPROCS(0)
}

func (f *localFabric) close(context.Context) error {
	f.world.cases.Wait()
	return f.transport_.Close()
}
