// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// interrupted is the fabric of a rank that builds a communicator when another one is lost.
type interrupted struct {
	*processFabric
	shared   *sharedFabric
	kill     func()        // nil, or what is called before this rank says that it has joined
	reported chan struct{} // closed when this rank has reported the loss
	once     sync.Once
	built    *Comm // what reported it
}

func (f *interrupted) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	if !strings.HasSuffix(key, "/joined") {
		return f.processFabric.exchange(ctx, key, members, mine)
	}
	if f.kill != nil {
		f.kill()
		<-f.reported // its connection has ended: the others cannot have its word any more
	}
	all, err := f.processFabric.exchange(ctx, key, members, mine)
	<-f.reported
	return all, err
}

func (f *interrupted) report(scope string, members []int, r report) {
	f.once.Do(func() {
		f.shared.mu.Lock()
		f.built = f.shared.comms[scope]
		f.shared.mu.Unlock()
		close(f.reported)
	})
	f.processFabric.report(scope, members, r)
}

// TestLossWhileBuilding: a rank is lost when the others have mapped their memory and listen, but have no communicator yet.
// What they report of it is judged, or not, when that memory is gone.
func TestLossWhileBuilding(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	fabrics := make([]*interrupted, len(comms))
	for r, c := range comms {
		fabrics[r] = &interrupted{processFabric: c.fabric.fabric.(*processFabric), shared: c.fabric, reported: make(chan struct{})}
		c.fabric.fabric = fabrics[r]
	}
	fabrics[2].kill = func() { fabrics[1].session.ReportGone(2, "it was shot") }
	each(t, comms, func(c *Comm) error {
		if _, err := c.Split(t.Context(), 0, 0); !errors.Is(err, ErrPeerLost) {
			return fmt.Errorf("rank %d: Split returned %v", c.Rank(), err)
		}
		return nil
	})
	for _, f := range fabrics {
		f.built.cause.Store(nil) // as if the verdict came only now
		f.built.breakWith(verdict{Kind: verdictLost, Rank: 2}, ErrPeerLost)
	}
}

// late is a fabric on which a rank's time is over when all have joined.
type late struct {
	fabric
	over func()
}

func (f *late) exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	all, err := f.fabric.exchange(ctx, key, members, mine)
	if strings.HasSuffix(key, "/joined") {
		f.over()
		return nil, ctx.Err()
	}
	return all, err
}

// TestOneDoesNotGetIt: the others, which have the communicator, hear that one has not.
func TestOneDoesNotGetIt(t *testing.T) {
	comms := newWorld(t, blocks(3, 1), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	comms[1].fabric.fabric = &late{comms[1].fabric.fabric, cancel}
	each(t, comms, func(c *Comm) error {
		if c.Rank() == 1 {
			if _, err := c.Split(ctx, 0, 0); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("Split returned %v", err)
			}
			return nil
		}
		sub, err := c.Split(t.Context(), 0, 0)
		if err != nil {
			return err
		}
		defer sub.Close(t.Context())
		if err := sub.Barrier(t.Context()); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "did not get the communicator") {
			return fmt.Errorf("rank %d: Barrier returned %v", c.Rank(), err)
		}
		return nil
	})
}

// unlucky is the fabric of a rank that cannot make its part of a node's memory, but for what segment says.
type unlucky struct {
	*processFabric
	fails func() error
}

func (f *unlucky) segment(context.Context, string, int, []int, *engine.Geometry) (*hostmem.Segment, []wait.Bell, error) {
	return nil, nil, f.fails()
}

// buildAgain makes the ranks build another communicator, with no parent that could break, of which the culprit cannot make its
// part. check sees the others' errors.
func buildAgain(t *testing.T, comms []*Comm, culprit int, fails func() error, check func(err error) bool) {
	t.Helper()
	f := comms[culprit].fabric
	f.fabric = &unlucky{f.fabric.(*processFabric), fails}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	others := atomic.Int32{}
	others.Store(int32(len(comms) - 1))
	over, end := context.WithCancel(ctx)
	defer end()
	each(t, comms, func(c *Comm) error {
		if c.rank == culprit {
			_, _ = newComm(over, c.fabric, c.opts, "another", c.members, c.rank)
			return nil
		}
		defer func() {
			if others.Add(-1) == 0 {
				end() // the culprit may be one that is taken for dead, and hears nothing any more
			}
		}()
		if _, err := newComm(ctx, c.fabric, c.opts, "another", c.members, c.rank); err == nil || ctx.Err() != nil || !check(err) {
			return fmt.Errorf("newComm returned %w (%v)", err, ctx.Err())
		}
		return nil
	})
}

// TestOneCannotBuild: member 0 of a node, which hands the memory out, or member 1, which is waited for, has none. The others do
// not wait until their time is over, and say whose fault it was.
func TestOneCannotBuild(t *testing.T) {
	for culprit := range 2 {
		t.Run(fmt.Sprint("member ", culprit), func(t *testing.T) {
			comms := initWorld(t, blocks(3, 2), "127.0.0.1", Options{Transport: TransportTCP})
			buildAgain(t, comms, culprit, func() error { return errors.New("out of luck") }, func(err error) bool {
				return strings.Contains(err.Error(), fmt.Sprintf("rank %d (host ", culprit)) && strings.Count(err.Error(), "out of luck") == 1
			})
		})
	}
}

// TestOneWaitsLonger: the time of one rank is over while it waits for another one. It is a timeout also for those that had more time.
func TestOneWaitsLonger(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	over := fmt.Errorf("%w: the ranks did not meet within InitTimeout 1m0s", ErrTimeout)
	buildAgain(t, comms, 2, func() error { return over }, func(err error) bool {
		return errors.Is(err, ErrTimeout) && strings.Count(err.Error(), "rank 2 (host ") == 1
	})
}

// TestLossBeforeMemory: a rank is lost while the others of its node wait for it.
func TestLossBeforeMemory(t *testing.T) {
	comms := initWorld(t, blocks(3, 1), "127.0.0.1", Options{Transport: TransportTCP})
	session := comms[1].fabric.fabric.(*processFabric).session
	buildAgain(t, comms, 2, func() error {
		session.ReportGone(2, "it was shot")
		<-comms[0].life.Done()
		return errors.New("it is not there any more")
	}, func(err error) bool { return errors.Is(err, ErrPeerLost) && strings.Contains(err.Error(), "rank 2 (") })
	for _, c := range comms {
		<-c.life.Done() // the world's communicator has broken, too, so that Close waits for nobody
	}
}

// TestOneLacksCUDA: a rank that was told to load CUDA and cannot says so to the others, which would hear only that it has closed.
func TestOneLacksCUDA(t *testing.T) {
	w, o := newLocalWorld(blocks(2, 2)), Options{CUDA: CUDAOff}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := (&localFabric{world: w, self: 1}).exchange(t.Context(), "key/terms", []int{0, 1}, []byte(`{"Lacks":"no CUDA runtime"}`)); err != nil {
			t.Error(err)
		}
	})
	_, err := agree(t.Context(), &localFabric{world: w, self: 0}, &o, "key", []int{0, 1}, 0)
	wg.Wait()
	if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "rank 1 (host node1, pid ") || !strings.Contains(err.Error(), "no CUDA runtime") {
		t.Errorf("the error is %v", err)
	}
}
