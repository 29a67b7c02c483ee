// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// soaker is one rank of a soak.
type soaker struct {
	cfg   *SoakConfig
	out   Output
	begin time.Time
	first int // its rank at the start
	ranks int // at the start

	world  *hfreduce.Comm
	group  *hfreduce.Comm // of this rank's group, nil if it is in none
	epoch  atomic.Int64   // number of the communicator, from 0
	number atomic.Int64   // of the burst on it
	lanes  [maxBurst]lane // one for each call in flight
	tables map[tableKey]*table

	summary SoakSummary
	said    int // complaints
	stuck   chan<- error
	watch   *time.Timer
}

func newSoaker(cfg *SoakConfig, comm *hfreduce.Comm, out Output, begin time.Time, stuck chan<- error) *soaker {
	s := &soaker{
		cfg: cfg, out: out, begin: begin, first: comm.Rank(), ranks: comm.WorldSize(), world: comm, tables: map[tableKey]*table{}, stuck: stuck,
		summary: SoakSummary{Collectives: make([]SoakCount, len(Collectives())), Ranks: comm.WorldSize()},
	}
	for i := range s.lanes {
		l := &s.lanes[i]
		l.config = Config{Unalign: soakUnalign, hooks: cfg.hooks}
		l.rank = rank{cfg: &l.config, out: out, max: cfg.MaxBytes}
	}
	return s
}

// run soaks until the time is over, on one communicator after the other where faults break them.
func (s *soaker) run(ctx context.Context) error {
	s.watch = time.AfterFunc(s.patience(), func() {
		s.stuck <- fmt.Errorf("bench soak: rank %d has done nothing for %v, at %v", s.first, s.patience(), s)
	})
	defer s.watch.Stop()
	if s.first == 0 {
		s.reportStart()
	}
	err := s.soakAll(ctx)
	if err != nil {
		s.summary.Amiss++
		s.abort(err)
		err = fmt.Errorf("bench soak: %v: %w", s, err)
	}
	if s.world.Rank() == 0 {
		s.reportEnd()
	}
	return cmp.Or(err, s.leave(ctx))
}

// soakAll soaks on the communicator, and on those that take its place.
func (s *soaker) soakAll(ctx context.Context) error {
	for {
		err := s.soak(ctx)
		if err == nil || !s.cfg.Faults {
			return err
		}
		if goesOn, err := s.repair(ctx, err); err != nil || !goesOn {
			return err
		}
		s.epoch.Add(1)
	}
}

// patience is after how long a rank that does nothing is given up.
func (s *soaker) patience() time.Duration { return s.cfg.Bound + 30*time.Second }

// String tells where the rank is, and how to get there again.
func (s *soaker) String() string {
	return fmt.Sprintf("seed %d, communicator %d, burst %d", s.cfg.Seed, s.epoch.Load(), s.number.Load())
}

// soak works on one communicator until the time is over, something is wrong, or it breaks.
func (s *soaker) soak(ctx context.Context) error {
	plan := newSoakPlan(s.cfg.Seed, int(s.epoch.Load()), s.world.WorldSize(), s.cfg.MaxBytes)
	for n := 0; ; n++ {
		s.number.Store(int64(n))
		if n%roundBursts == 0 {
			if over, err := s.agree(ctx); over || err != nil {
				return err
			}
		}
		b := plan.burst(n)
		if b.pause > 0 && b.pauser == s.world.Rank() {
			time.Sleep(b.pause)
		}
		err := s.split(ctx, b.split)
		if err == nil {
			err = s.burst(ctx, &b)
		}
		if err != nil {
			return err
		}
	}
}

// news is what a rank tells the others between bursts.
type news struct {
	over         uint64 // its time is over
	wrong, amiss uint64 // so many
	check        uint64 // of the other numbers: what a fault has spoilt must not be believed
}

func (n *news) seal() uint64 { return mix(mix(mix(n.over)^n.wrong) ^ n.amiss) }

// agree tells all ranks what each found and whether its time is over, and reports whether all stop.
func (s *soaker) agree(ctx context.Context) (over bool, err error) {
	mine := news{wrong: uint64(s.summary.Wrong), amiss: uint64(s.summary.Amiss)}
	if s.over() {
		mine.over = 1
	}
	mine.check = mine.seal()
	sent, all := []uint64{mine.over, mine.wrong, mine.amiss, mine.check}, make([]uint64, 4*s.world.WorldSize())
	started := time.Now()
	err = s.world.AllGather(ctx, hfreduce.Host(all), hfreduce.Host(sent))
	s.ended(started, err)
	if err != nil {
		return false, err
	}
	for rank := range s.world.WorldSize() {
		n := news{all[4*rank], all[4*rank+1], all[4*rank+2], all[4*rank+3]}
		if n.check != n.seal() {
			s.summary.Wrong++
			s.say("wrong: allgather of 4 elements of uint64, by which the ranks agree: of rank %d came %+v", rank, n)
			return false, errSpoilt
		}
		over = over || n.over+n.wrong+n.amiss > 0
		s.summary.Wrong, s.summary.Amiss = max(s.summary.Wrong, int(n.wrong)), max(s.summary.Amiss, int(n.amiss))
	}
	s.summary.Ranks = s.world.WorldSize()
	if s.world.Rank() == 0 {
		s.out.Progress.Step(int(time.Since(s.begin).Seconds()), int(s.cfg.Duration.Seconds()), s.String())
	}
	if !over {
		return false, nil
	}
	started = time.Now()
	err = s.world.Barrier(ctx) // a rank that leaves alone lets the others wait
	s.ended(started, err)
	return err == nil, err
}

// over reports whether this rank has done enough.
func (s *soaker) over() bool {
	return time.Since(s.begin) >= s.cfg.Duration || s.cfg.bursts > 0 && s.number.Load() >= int64(s.cfg.bursts)
}

// errSpoilt ends a communicator whose ranks cannot tell each other what to do.
var errSpoilt = errors.New("what the ranks told each other arrived spoilt")

// ended notes the end of a call.
func (s *soaker) ended(started time.Time, err error) time.Duration {
	s.watch.Reset(s.patience())
	took := time.Since(started)
	if took > s.cfg.Bound {
		s.amiss("a call took %v, more than %v", took, s.cfg.Bound)
	}
	if err != nil && s.cfg.Faults && !injected(err) {
		s.amiss("an error that can't be told from others: %v", err)
	}
	return took
}

// amiss notes that something other than a result is wrong.
func (s *soaker) amiss(format string, args ...any) {
	s.summary.Amiss++
	s.say(format, args...)
}

// say describes a fault.
func (s *soaker) say(format string, args ...any) {
	if s.said++; s.said <= maxComplaints {
		fmt.Fprintf(s.out.Diagnostics, "hfreduce bench soak: rank %d, %v: %s\n", s.first, s, fmt.Sprintf(format, args...))
	}
}

// split forms groups anew.
func (s *soaker) split(ctx context.Context, p *soakSplit) error {
	if p == nil {
		return nil
	}
	started := time.Now()
	err := s.closeGroup(ctx)
	if err == nil {
		color, key := p.place(s.world.Rank())
		s.group, err = s.world.Split(ctx, color, key)
	}
	s.ended(started, err)
	return err
}

// closeGroup closes the group's communicator, which all its ranks do.
func (s *soaker) closeGroup(ctx context.Context) error {
	group := s.group
	if s.group = nil; group == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Bound)
	defer cancel()
	return group.Close(ctx)
}

// maxRepairs is how often a rank tries to go on after a fault: others may be lost meanwhile.
const maxRepairs = 4

// repair goes on after a fault, with the ranks that are left. It reports false where there is no time to.
func (s *soaker) repair(ctx context.Context, cause error) (goesOn bool, err error) {
	s.summary.Breaks++
	s.abort(cause)
	if time.Since(s.begin) >= s.cfg.Duration+s.cfg.Bound {
		return false, nil // the ranks cannot even agree to stop
	}
	var next *hfreduce.Comm
	for range maxRepairs {
		if next, err = s.shrink(ctx); err == nil || !injected(err) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("after %w: %w", cause, err)
	}
	if err := s.closeBroken(ctx); err != nil {
		return false, err
	}
	s.world = next
	return true, nil
}

// shrink makes the communicator of the ranks that are left and come in time.
func (s *soaker) shrink(ctx context.Context) (*hfreduce.Comm, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Bound)
	defer cancel()
	started := time.Now()
	next, err := s.world.Shrink(ctx)
	s.ended(started, err)
	return next, err
}

// closeBroken closes the communicators that a fault broke, whose memory of Alloc goes with them.
func (s *soaker) closeBroken(ctx context.Context) error {
	for i := range s.lanes {
		s.lanes[i].shared = [2]area{}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Bound)
	defer cancel()
	err := s.closeGroup(ctx)
	if err = errors.Join(err, s.world.Close(ctx)); err != nil && !injected(err) {
		return fmt.Errorf("close a broken communicator: %w", err)
	}
	return nil
}

// leave gives back what the rank took. Those that go on need not wait for it then.
func (s *soaker) leave(ctx context.Context) error {
	var errs []error
	for i := range s.lanes {
		errs = append(errs, s.lanes[i].free())
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Bound)
	defer cancel()
	errs = append(errs, s.closeGroup(ctx), s.world.Close(ctx))
	if s.cfg.Faults {
		return nil // a fault may come at any time
	}
	return errors.Join(errs...)
}
