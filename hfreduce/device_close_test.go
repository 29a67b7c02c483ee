// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// onGPUs are the options of communicators that a test closes itself.
var onGPUs = func() Options {
	o := smallDeviceChunks
	o.CUDA = CUDAOn
	return o
}()

// aGPURank returns a rank's side of a GPU, which the test closes.
func aGPURank(t *testing.T) *gpuRank {
	t.Helper()
	g, err := openGPURank(needCUDA(t)-1, roomy)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestDeviceCloseLeavesWhatTheGPUMayTouch closes a broken communicator while its streams are held up by the caller's: the
// error says that memory stays mapped, and nothing is unmapped under the GPU, which the fake would not survive.
func TestDeviceCloseLeavesWhatTheGPUMayTouch(t *testing.T) {
	g := aGPURank(t)
	g.needHold(t)
	comms, err := NewLocal([]int{0}, onGPUs)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.hold(); err != nil {
		t.Fatal(err)
	}
	b := Device(g.memory, 20_000, TypeInt32, g.stream)
	r, err := comms[0].AllReduceAsync(b, b, Sum)
	if err != nil {
		t.Fatal(err)
	}
	comms[0].Abort(errors.New("no more"))
	if err := r.Wait(t.Context()); !errors.Is(err, ErrAborted) {
		t.Errorf("the call ended with %v, want ErrAborted", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	left := comms[0].devices.gpu.Load()
	if err := comms[0].Close(ctx); err == nil || !strings.Contains(err.Error(), "stays mapped") {
		t.Errorf("Close gave %v, want that memory stays mapped", err)
	}
	g.letGo()
	if err := errors.Join(g.Synchronize(g.stream), left.device.Synchronize(left.in.stream), left.device.Synchronize(left.out.stream)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(left.free(), g.close()); err != nil { // for the other tests
		t.Error(err)
	}
}

// TestDeviceCloseWithoutTime closes communicators, broken ones too, with a context that is over: what an idle GPU holds is given
// back all the same.
func TestDeviceCloseWithoutTime(t *testing.T) {
	g := aGPURank(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	before := cuda.Live()
	for _, broken := range []bool{false, true} {
		comms, err := NewLocal([]int{0}, onGPUs)
		if err != nil {
			t.Fatal(err)
		}
		b := Device(g.memory, 20_000, TypeInt32, g.stream)
		if err := comms[0].AllReduce(t.Context(), b, b, Sum); err != nil {
			t.Fatal(err)
		}
		if broken {
			comms[0].Abort(errors.New("no more"))
		}
		_ = comms[0].Close(over)
		if after := cuda.Live(); !maps.Equal(before, after) {
			t.Errorf("broken: %t: before there were %v, now there are %v", broken, before, after)
		}
	}
	if err := g.close(); err != nil {
		t.Error(err)
	}
}

// TestDeviceCloseEndsACall closes a communicator, in too little time, whose call waits for another rank: Close ends it, and then the
// GPU is idle, so that nothing stays.
func TestDeviceCloseEndsACall(t *testing.T) {
	g := aGPURank(t)
	comms, err := NewLocal(blocks(2, 1), onGPUs)
	if err != nil {
		t.Fatal(err)
	}
	before := cuda.Live()
	called := make(chan error, 1)
	go func() {
		b := Device(g.memory, 20_000, TypeInt32, g.stream)
		called <- comms[0].AllReduce(context.Background(), b, b, Sum)
	}()
	for deadline := time.Now().Add(10 * time.Second); comms[0].engine.Standings()[0].Stage == engine.StageOutside; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call does not begin")
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := comms[0].Close(short); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "stays mapped") {
		t.Errorf("Close gave %v, want that it could not wait, and no memory that stays", err)
	}
	if err := <-called; !errors.Is(err, ErrAborted) {
		t.Errorf("the call gave %v, want ErrAborted", err)
	}
	if after := cuda.Live(); !maps.Equal(before, after) {
		t.Errorf("before there were %v, now there are %v", before, after)
	}
	if err := errors.Join(comms[1].Close(t.Context()), g.close()); err != nil {
		t.Error(err)
	}
}

// TestDeviceCloseDuringTheFirstCall closes a communicator, in no time, while another goroutine's call makes its side of the GPU:
// that is given back, and the memory that it pins is not unmapped before.
func TestDeviceCloseDuringTheFirstCall(t *testing.T) {
	g := aGPURank(t)
	comms, err := NewLocal([]int{0}, onGPUs)
	if err != nil {
		t.Fatal(err)
	}
	before := cuda.Live()
	called := make(chan error, 1)
	users.mu.Lock() // the call stops there
	go func() {
		b := Device(g.memory, 20_000, TypeInt32, g.stream)
		_, err := comms[0].AllReduceAsync(b, b, Sum)
		called <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); maps.Equal(before, cuda.Live()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call makes nothing on the GPU")
		}
	}
	over, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := comms[0].Close(over); err == nil || !strings.Contains(err.Error(), "stays mapped") {
		t.Errorf("Close gave %v, want that memory stays mapped", err)
	}
	users.mu.Unlock()
	if err := <-called; !errors.Is(err, ErrClosed) {
		t.Errorf("the call gave %v, want ErrClosed", err)
	}
	if after := cuda.Live(); !maps.Equal(before, after) {
		t.Errorf("before there were %v, now there are %v", before, after)
	}
	if err := g.close(); err != nil {
		t.Error(err)
	}
}

// TestDeviceCallAfterClose: a call that Close has overtaken touches nothing of what Close has given back, whether or not there was
// a side of the GPU, or its stream was known.
func TestDeviceCallAfterClose(t *testing.T) {
	g := aGPURank(t)
	another, err := g.NewStream(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, used := range []bool{true, false} {
		comms, err := NewLocal([]int{0}, onGPUs)
		if err != nil {
			t.Fatal(err)
		}
		k, err := comms[0].allReduce(Device(g.memory, 100, TypeInt32, another), Device(g.memory, 100, TypeInt32, another), Sum)
		if err != nil {
			t.Fatal(err)
		}
		if used {
			b := Device(g.memory, 100, TypeInt32, g.stream)
			if err := comms[0].AllReduce(t.Context(), b, b, Sum); err != nil {
				t.Fatal(err)
			}
		}
		if err := comms[0].Close(t.Context()); err != nil {
			t.Error(err)
		}
		r := &Request{call: k, ctx: t.Context(), done: make(chan struct{})}
		if err := comms[0].startOrdered(r); !errors.Is(err, ErrClosed) {
			t.Errorf("used before: %t: the call gave %v, want ErrClosed", used, err)
		}
	}
	if err := errors.Join(g.DestroyStream(another), g.close()); err != nil {
		t.Error(err)
	}
}
