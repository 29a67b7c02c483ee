// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// This file makes the calls of a burst: memory, what it holds, the calls in flight, and what they did.

// lane is the memory of a call in flight: a rank of the benchmark, with buffers on the heap and others of Alloc.
type lane struct {
	rank
	config Config
	heap   [2]area
	shared [2]area // of memory of the world's communicator; nothing where there is no such yet
}

// tableKey names a pattern and who gives its inputs.
type tableKey struct {
	dtype         hfreduce.DataType
	op            Op
	ranks, number int
}

// table is a pattern with what it gives.
type table struct {
	pattern         *pattern
	inputs, results period
}

// burst makes the calls of a burst and verifies them.
func (s *soaker) burst(ctx context.Context, b *burst) (err error) {
	var flying []*flight
	for i := range b.calls {
		var f *flight
		if f, err = s.take(&s.lanes[i], &b.calls[i], i); err != nil {
			break
		}
		if f == nil {
			continue // not in the group
		}
		f.started = time.Now()
		if b.async {
			f.request, err = f.call.start()
		} else {
			err = f.call.run(ctx)
		}
		if err != nil {
			s.count(f, err)
			break
		}
		flying = append(flying, f)
		if !b.async {
			s.land(f)
		}
	}
	if err != nil {
		s.abort(err) // or calls in flight, and other ranks, would wait for this one
	}
	for _, f := range flying {
		if f.request == nil {
			continue
		}
		if werr := f.request.Wait(context.WithoutCancel(ctx)); werr != nil {
			s.count(f, werr)
			s.abort(werr)
			err = errors.Join(err, werr)
			continue
		}
		s.land(f)
	}
	return err
}

// abort lets no rank wait for this one, on either communicator.
func (s *soaker) abort(err error) {
	s.world.Abort(err)
	if s.group != nil {
		s.group.Abort(err)
	}
}

// flight is a call that was started.
type flight struct {
	lane    *lane
	test    test
	shape   shape
	windows windows
	seed    int
	call    *call
	started time.Time
	request *hfreduce.Request
}

// take prepares a call on a lane: the memory and what it holds. It returns nil if this rank is not of the group.
func (s *soaker) take(l *lane, c *soakCall, place int) (*flight, error) {
	comm := s.world
	if c.group {
		if comm = s.group; comm == nil {
			return nil, nil
		}
	}
	l.comm, l.number, l.ranks = comm, comm.Rank(), comm.WorldSize()
	if err := s.memory(l, c); err != nil {
		return nil, err
	}
	l.config.Unalign = c.unalign
	t := c.test(l.ranks)
	f := &flight{lane: l, test: t, shape: c.shape(l.ranks), seed: firstSeed + int(s.number.Load())*maxBurst + place}
	if t.collective != Barrier {
		table := s.table(tableKey{t.dtype, t.op, l.ranks, l.number})
		l.pattern, l.inputs, l.results = table.pattern, table.inputs, table.results
	}
	f.windows = l.windows(t, f.shape, c.inPlace)
	if err := l.fill(f.windows, t, f.seed); err != nil {
		return nil, err
	}
	w := l.walk(t, f.shape, c.inPlace)
	f.call = w.iteration(0)
	return f, nil
}

// memory gives a lane the memory that a call wants.
func (s *soaker) memory(l *lane, c *soakCall) (err error) {
	areas := &l.heap
	if l.config.Registered = c.registered; c.registered {
		if areas = &l.shared; c.renew {
			err = l.free()
		}
	}
	l.config.Unalign = soakUnalign
	member := l.comm
	l.comm = s.world // whose memory it is; a group uses it as any other
	for i := range areas {
		if err == nil && areas[i].bytes == nil {
			areas[i], err = l.newArea()
		}
	}
	l.comm, l.send, l.recv = member, areas[0], areas[1]
	return err
}

// free gives back what is of Alloc.
func (l *lane) free() error {
	var errs []error
	for i := range l.shared {
		errs = append(errs, l.shared[i].free())
		l.shared[i] = area{}
	}
	return errors.Join(errs...)
}

// table returns a pattern.
func (s *soaker) table(k tableKey) *table {
	t := s.tables[k]
	if t == nil {
		p := newPattern(k.dtype, k.op, k.ranks, s.cfg.hooks.period)
		t = &table{pattern: p, inputs: p.inputs(k.number)}
		if k.op != None {
			t.results = p.results()
		}
		s.tables[k] = t
	}
	return t
}

// land counts a call that has ended well and verifies what it did.
func (s *soaker) land(f *flight) {
	c := s.count(f, nil)
	s.cfg.hooks.corrupt(f.test.collective, f.lane.number, f.windows.inPlace, f.windows.whole)
	if wrong, faults := f.lane.verify(f.windows, f.test, f.shape, f.seed); wrong+faults > 0 {
		c.Wrong++
		s.summary.Wrong++
		s.say("wrong: %s of %d elements of %s", f.test.collective, f.shape.count, f.test.typeName())
	}
}

// count notes the end of a call.
func (s *soaker) count(f *flight, err error) *SoakCount {
	c := &s.summary.Collectives[f.test.collective]
	c.Calls++
	c.Bytes += max(f.shape.send, f.shape.recv) * int64(f.test.elem())
	if err != nil {
		c.Errors++
	}
	c.Slowest = max(c.Slowest, s.ended(f.started, err))
	return c
}
