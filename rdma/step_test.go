// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStepWrites writes messages of all sizes with immediate data, and looks at every byte and the one after.
func TestStepWrites(t *testing.T) {
	const most = 16 << 20
	eachPair(t, endConfig{memory: most + 4096}, func(t *testing.T, a, b *end) {
		for i, n := range []int{0, 1, 7, 64, 4095, 4096, 4097, 65536, 1<<20 + 3, most} {
			fill(a.mem[:n+1], i)
			clear(b.mem[:n+1])
			wr := a.write(b, uint64(i), 0, n)
			wr.Op, wr.Imm = WriteImm, 0x01020304+uint32(i)
			b.post(1)
			a.post(0, wr)
			a.want(Completion{ID: uint64(i), Op: CompletedWrite})
			b.want(Completion{ID: ReceiveID, Op: CompletedReceiveImm, Bytes: uint32(n), Imm: wr.Imm, WithImm: true})
			if !bytes.Equal(a.mem[:n], b.mem[:n]) || b.mem[n] != 0 {
				t.Errorf("%d bytes: what arrived is not what was sent", n)
			}
		}
	})
}

// TestStepOrder posts more sends than go into one chain: signaled ones complete in order, after all before them.
func TestStepOrder(t *testing.T) {
	eachPair(t, endConfig{maxSend: 100, maxRecv: 100}, func(t *testing.T, a, b *end) {
		var sends []SendWR
		fill(a.mem, 1)
		for i := range 100 {
			wr := a.write(b, uint64(i), 512*i, 512)
			if i%10 != 9 {
				wr.Flags = 0
			}
			sends = append(sends, wr)
		}
		a.post(0, sends...)
		for i, c := range a.take(10) {
			if c.ID != uint64(10*i+9) || c.Status != StatusSuccess {
				t.Errorf("completion %d is %+v", i, c)
			}
		}
		if !bytes.Equal(a.mem[:51200], b.mem[:51200]) {
			t.Error("the data differ")
		}
		for i := range sends {
			sends[i].Op, sends[i].Imm = WriteImm, uint32(i)
		}
		b.post(len(sends))
		a.post(0, sends...)
		for i, c := range b.take(len(sends)) {
			if c.Imm != uint32(i) || !c.WithImm || c.Bytes != 512 {
				t.Errorf("receive %d is %+v", i, c)
			}
		}
		a.take(10)
	})
}

// TestStepInline changes the buffer as soon as Step returns, and needs no LKey.
func TestStepInline(t *testing.T) {
	eachPair(t, endConfig{maxInline: 4096}, func(t *testing.T, a, b *end) {
		n := min(a.qp.MaxInline(), 4096)
		t.Logf("%d bytes inline", n)
		fill(a.mem[:n], 5)
		want := bytes.Clone(a.mem[:n])
		wr := a.write(b, 1, 0, n)
		wr.Flags, wr.LKey = Signaled|Inline, 0
		a.post(0, wr)
		clear(a.mem[:n])
		a.want(Completion{ID: 1, Op: CompletedWrite})
		if !bytes.Equal(b.mem[:n], want) {
			t.Error("what arrived is not what was posted")
		}
	})
}

// TestStepEmptySend: a send without bytes takes a receive without bytes.
func TestStepEmptySend(t *testing.T) {
	eachPair(t, endConfig{}, func(t *testing.T, a, b *end) {
		b.post(1)
		a.post(0, SendWR{ID: 8, Op: Send, Flags: Signaled})
		a.want(Completion{ID: 8, Op: CompletedSend})
		b.want(Completion{ID: ReceiveID, Op: CompletedReceive})
	})
}

// TestStepQueueFull: what does not fit is an error that tells how much did.
func TestStepQueueFull(t *testing.T) {
	a, b := newPair(t, endConfig{maxSend: 4})
	sends := make([]SendWR, 5000)
	for i := range sends {
		sends[i] = a.write(b, uint64(i), 0, 8)
	}
	posted, _, err := a.qp.Step(sends, 0, nil)
	t.Log(posted, err)
	if posted < 4 || posted >= len(sends) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("posted %d: %v", posted, err)
	}
	for i, c := range a.take(posted) {
		if c.ID != uint64(i) || c.Status != StatusSuccess {
			t.Fatalf("completion %d is %+v", i, c)
		}
	}
	if _, _, err := a.qp.Step(nil, -1, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("-1 receives: %v", err)
	}
}

func TestStepFlushes(t *testing.T) {
	eachPair(t, endConfig{}, func(t *testing.T, a, b *end) {
		a.post(3)
		if err := a.qp.Fail(); err != nil {
			t.Fatal(err)
		}
		flushed := Completion{ID: ReceiveID, Status: StatusFlushed}
		a.want(flushed, flushed, flushed)
		if s, err := a.qp.State(); err != nil || s != StateError {
			t.Errorf("the state is %v, %v", s, err)
		}
		a.post(0, a.write(b, 7, 0, 64))
		a.want(Completion{ID: 7, Status: StatusFlushed})
	})
}

func TestStepWrongRKey(t *testing.T) {
	eachPair(t, endConfig{}, func(t *testing.T, a, b *end) {
		fill(a.mem, 3)
		b.post(1)
		bad := a.write(b, 1, 0, 64)
		bad.RKey ^= 0x5500
		a.post(0, bad, a.write(b, 2, 0, 64))
		a.want(Completion{ID: 1, Status: StatusRemoteAccess}, Completion{ID: 2, Status: StatusFlushed})
		if !bytes.Equal(b.mem, make([]byte, len(b.mem))) {
			t.Error("something was written")
		}
	})
}

// TestStepSilentPeer: a peer that is in ERR does not answer.
func TestStepSilentPeer(t *testing.T) {
	a, b := newPair(t, endConfig{})
	if err := b.qp.Fail(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	a.post(0, a.write(b, 1, 0, 64), a.write(b, 2, 0, 64))
	a.want(Completion{ID: 1, Status: StatusRetryExceeded}, Completion{ID: 2, Status: StatusFlushed})
	t.Logf("after %v", time.Since(start))
}

// TestStepNoReceive: a peer that posts no receives is asked RNRRetry times.
func TestStepNoReceive(t *testing.T) {
	p := places(t)[0]
	a, b := newEnd(t, p, endConfig{}), newEnd(t, p, endConfig{})
	connect(a, b, func(p *Path) { p.RNRRetry = 0 })
	wr := a.write(b, 1, 0, 64)
	wr.Op = WriteImm
	a.post(0, wr)
	a.want(Completion{ID: 1, Status: StatusRNRRetryExceeded})
}

// TestStepManyQueues: a QP with two CQs polls both, the receives first; QPs that share a CQ are told apart.
func TestStepManyQueues(t *testing.T) {
	p := places(t)[0]
	a, b, c := newEnd(t, p, endConfig{}), newEnd(t, p, endConfig{}), newEnd(t, p, endConfig{})
	connect(a, c, nil)
	recv := must[*CQ](t)(a.dev.CreateCQ(16, nil))
	defer closeAll(t, recv)
	q := must[*QP](t)(a.pd.CreateQP(QPConfig{Send: a.cq, Recv: recv, MaxSend: 4, MaxRecv: 4}))
	defer closeAll(t, q)
	two := *a // the same but for its QP
	two.qp = q
	if err := q.Init(p.port, 0, LocalWrite|RemoteWrite); err != nil {
		t.Fatal(err)
	}
	connect(&two, b, nil)
	b.post(0, SendWR{ID: 1, Op: Send, Flags: Signaled}) // waits for the receive
	if err := a.cq.Arm(); err != nil {
		t.Fatal(err)
	}
	two.post(2, two.write(b, 2, 0, 8))
	b.want(Completion{ID: 1, Op: CompletedSend})
	if !readable(t, a.ch.FD(), 5*time.Second) { // both queues have something now
		t.Fatal("the write has not completed")
	}
	if _, err := a.ch.Drain(); err != nil {
		t.Fatal(err)
	}
	two.want(Completion{ID: ReceiveID, Op: CompletedReceive}, Completion{ID: 2, Op: CompletedWrite})
	a.post(1)
	for _, q := range []*QP{q, a.qp} {
		if err := q.Fail(); err != nil {
			t.Fatal(err)
		}
	}
	two.post(0, two.write(b, 3, 0, 8))
	seen := map[uint32]int{}
	for _, c := range two.take(3) {
		seen[c.QP]++
	}
	if seen[q.Number()] != 2 || seen[a.qp.Number()] != 1 {
		t.Errorf("completions by QP: %v, want 2 of %#x and 1 of %#x", seen, q.Number(), a.qp.Number())
	}
}

// TestStepSleeps: an armed CQ wakes who sleeps on its channel's descriptor, once.
func TestStepSleeps(t *testing.T) {
	eachPair(t, endConfig{}, func(t *testing.T, a, b *end) {
		b.post(16)
		for i := range 8 {
			if err := b.cq.Arm(); err != nil {
				t.Fatal(err)
			}
			if _, n, err := b.qp.Step(nil, 0, make([]Completion, 1)); n != 0 || err != nil {
				t.Fatalf("%d completions, %v", n, err)
			}
			if readable(t, b.ch.FD(), 0) {
				t.Fatal("woken by nothing")
			}
			time.AfterFunc(5*time.Millisecond, func() { a.post(0, SendWR{ID: uint64(i), Op: WriteImm, Imm: uint32(i), Flags: Signaled}) })
			if !readable(t, b.ch.FD(), 5*time.Second) {
				t.Fatal("not woken")
			}
			if n, err := b.ch.Drain(); n != 1 || err != nil {
				t.Errorf("%d events, %v", n, err)
			}
			b.want(Completion{ID: ReceiveID, Op: CompletedReceiveImm, Imm: uint32(i), WithImm: true})
			a.want(Completion{ID: uint64(i), Op: CompletedWrite})
		}
		if n, err := b.ch.Drain(); n != 0 || err != nil {
			t.Errorf("%d events, %v", n, err)
		}
	})
}

func TestStepDoesNotAllocate(t *testing.T) {
	a, b := newPair(t, endConfig{})
	sends := []SendWR{a.write(b, 1, 0, 8), a.write(b, 2, 8, 8)}
	done, errs := make([]Completion, 16), 0
	run := func() {
		n := 0
		for first := sends; n < len(sends); first = nil {
			_, k, err := a.qp.Step(first, 0, done)
			if n += k; err != nil {
				errs++
				return
			}
		}
		if _, err := a.cq.Poll(done); err != nil {
			errs++
		}
	}
	if n := testing.AllocsPerRun(100, run); n != 0 || errs != 0 {
		t.Errorf("%v allocations and %d errors in a step", n, errs)
	}
	sleep := func() {
		if a.cq.Arm() != nil {
			errs++
		}
		if _, err := a.ch.Drain(); err != nil {
			errs++
		}
	}
	if n := testing.AllocsPerRun(100, sleep); n != 0 || errs != 0 {
		t.Errorf("%v allocations and %d errors in arming and draining", n, errs)
	}
}

// TestStepWhileClosing: Step, Close and Fail of other goroutines do not disturb each other.
func TestStepWhileClosing(t *testing.T) {
	for range 10 {
		a, b := newPair(t, endConfig{})
		var wg sync.WaitGroup
		var steps atomic.Int64
		for range 2 {
			wg.Go(func() {
				done := make([]Completion, 4)
				for {
					steps.Add(1)
					if _, _, err := a.qp.Step([]SendWR{a.write(b, 1, 0, 8)}, 0, done); errors.Is(err, ErrClosed) {
						return
					}
				}
			})
		}
		wg.Go(func() {
			for steps.Load() < 20 { // both are at it
				runtime.Gosched()
			}
			closeAll(t, a.dev, a.pd, a.cq, a.ch, a.qp)
		})
		wg.Wait()
	}
}

// BenchmarkStep is a step that finds nothing to do: what polling costs.
func BenchmarkStep(b *testing.B) {
	e, _ := newPair(b, endConfig{})
	done := make([]Completion, 32)
	for b.Loop() {
		if _, _, err := e.qp.Step(nil, 0, done); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStepWrite is a write of 8 bytes until its completion.
func BenchmarkStepWrite(b *testing.B) {
	e, to := newPair(b, endConfig{})
	done, send := make([]Completion, 32), []SendWR{e.write(to, 1, 0, 8)}
	for b.Loop() {
		n := 0
		for first := send; n == 0; first = nil {
			var err error
			if _, n, err = e.qp.Step(first, 0, done); err != nil {
				b.Fatal(err)
			}
		}
	}
}
