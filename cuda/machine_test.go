// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what takes microseconds before it fails.
const patience = 20 * time.Second

// until calls f until it is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing happened in %v", what, patience)
		}
	}
}

// must returns a value of a call that has to have success.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// give checks that something can be given back, at the end of the test.
func give(t *testing.T, back func() error) {
	t.Helper()
	t.Cleanup(func() {
		t.Helper()
		if err := back(); err != nil {
			t.Error(err)
		}
	})
}

func newStream(t *testing.T, d *Device) Stream {
	t.Helper()
	s := must[Stream](t)(d.NewStream(false))
	give(t, func() error { return d.DestroyStream(s) })
	return s
}

func newEvent(t *testing.T, d *Device, timing bool) Event {
	t.Helper()
	e := must[Event](t)(d.NewEvent(timing))
	give(t, func() error { return d.DestroyEvent(e) })
	return e
}

func newDeviceMemory(t *testing.T, d *Device, n int64) Ptr {
	t.Helper()
	p := must[Ptr](t)(d.Malloc(n))
	give(t, func() error { return d.Free(p) })
	return p
}

func newHostMemory(t *testing.T, d *Device, n int64) *HostMemory {
	t.Helper()
	h := must[*HostMemory](t)(d.HostAlloc(n))
	give(t, h.Close)
	return h
}

// mapped returns memory of the system, which Go does not move.
func mapped(t *testing.T, n int) []byte {
	t.Helper()
	b := must[[]byte](t)(unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS))
	give(t, func() error { return unix.Munmap(b) })
	return b
}

// fill writes bytes that depend on a number.
func fill(b []byte, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestRunCopies(t *testing.T) {
	d := open(t)
	const n = 3<<20 + 5
	s := newStream(t, d)
	memory := mapped(t, 4<<20)
	from := must[*HostMemory](t)(d.Register(memory))
	give(t, from.Close)
	to, a, b := newHostMemory(t, d, n+1), newDeviceMemory(t, d, n), newDeviceMemory(t, d, n)
	fill(memory, 1)
	var c Commands
	c.Copy(s, a+1, from.HostPtr(1), n-1, ToDevice)
	c.Fill(s, a, 7, 1)
	c.Copy(s, b, a, n, OnDevice)
	c.Copy(s, to.HostPtr(0), b, n, Any)
	if err := d.Run(&c); err != nil {
		t.Fatal(err)
	}
	if err := d.Synchronize(s); err != nil {
		t.Fatal(err)
	}
	got := to.Bytes()
	if got[0] != 7 || !bytes.Equal(got[1:n], memory[1:n]) || got[n] != 0 {
		t.Error("what came back is not what was sent")
	}
}

func TestRunCopies2D(t *testing.T) {
	d := open(t)
	const width, height, hostPitch, devicePitch = 100, 9, 128, 512
	s := newStream(t, d)
	h, p := newHostMemory(t, d, 2*hostPitch*height), newDeviceMemory(t, d, devicePitch*height)
	from, to := fill(h.Bytes()[:hostPitch*height], 2), h.Bytes()[hostPitch*height:]
	var c Commands
	c.Copy2D(s, p, devicePitch, h.HostPtr(0), hostPitch, width, height, ToDevice)
	c.Copy2D(s, h.HostPtr(hostPitch*height), hostPitch, p, devicePitch, width, height, ToHost)
	if err := d.Run(&c); err != nil {
		t.Fatal(err)
	}
	if err := d.Synchronize(s); err != nil {
		t.Fatal(err)
	}
	for row := range height {
		at := row * hostPitch
		if !bytes.Equal(from[at:at+width], to[at:at+width]) || !bytes.Equal(to[at+width:at+hostPitch], make([]byte, hostPitch-width)) {
			t.Errorf("row %d is wrong", row)
		}
	}
}

// player runs commands by a Player, as direct does by the device.
type player func(t *testing.T, c *Commands)

// eachWay runs a test with memory operations, where the device has them, and with a Player.
func eachWay(t *testing.T, test func(t *testing.T, d *Device, run player)) {
	d := open(t)
	if d.Properties().MemoryOperations {
		t.Run("direct", func(t *testing.T) {
			test(t, d, func(t *testing.T, c *Commands) {
				t.Helper()
				if err := d.Run(c); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
	t.Run("player", func(t *testing.T) {
		p := NewPlayer(d)
		stop := make(chan struct{})
		stopped := make(chan error)
		go func() {
			for {
				_, err := p.Advance()
				select {
				case <-stop:
					stopped <- err
					return
				default:
				}
			}
		}()
		test(t, d, func(_ *testing.T, c *Commands) { p.Add(c) })
		until(t, "the player", p.Idle)
		close(stop)
		if err := <-stopped; err != nil || p.Issued() != p.Added() {
			t.Errorf("issued %d of %d: %v", p.Issued(), p.Added(), err)
		}
		give(t, p.Close)
	})
}

// TestRunHandshake: the stream goes on when the host has come to a value, and the host sees that the stream did, also
// when the counters wrap; each side sees the other's bytes.
func TestRunHandshake(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Device, run player) {
		const n, first = 4096, 1<<32 - 5
		s, h, p := newStream(t, d), newHostMemory(t, d, 2*n+4096), newDeviceMemory(t, d, n)
		ready, done := must[Word](t)(h.Word(2*n)), must[Word](t)(h.Word(2*n+64))
		atomic.StoreUint32(ready.Host, first-1)
		atomic.StoreUint32(done.Host, first-1)
		var c Commands
		for i := range uint32(12) {
			c.Reset()
			c.Wait(s, ready, first+i)
			c.Copy(s, p, h.HostPtr(0), n, ToDevice)
			c.Copy(s, h.HostPtr(n), p, n, ToHost)
			c.Write(s, done, first+i)
			run(t, &c)
			if idle, err := d.Query(s); i == 0 && d.Properties().MemoryOperations && t.Name() == "TestRunHandshake/direct" && (idle || err != nil) {
				t.Errorf("idle %t, %v before the host was ready", idle, err)
			}
			if got := atomic.LoadUint32(done.Host); got != first+i-1 {
				t.Fatalf("step %d: the word is %d before the host was ready", i, got)
			}
			want := fill(h.Bytes()[:n], uint64(i))
			atomic.StoreUint32(ready.Host, first+i)
			until(t, "the stream", func() bool { return atomic.LoadUint32(done.Host) == first+i })
			if !bytes.Equal(h.Bytes()[n:2*n], want) {
				t.Fatalf("step %d: the bytes are not there when the word says so", i)
			}
		}
	})
}

// TestRunAcrossStreams: a chain of streams, each behind an event of the one before, moves a value along.
func TestRunAcrossStreams(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Device, run player) {
		const n, hops = 1 << 16, 6
		h := newHostMemory(t, d, 2*n+64)
		start, end := must[Word](t)(h.Word(2*n)), must[Word](t)(h.Word(2*n+4))
		var c Commands
		before, last := h.HostPtr(0), Event(0)
		for i := range hops {
			s, p, e := newStream(t, d), newDeviceMemory(t, d, n), newEvent(t, d, false)
			if i == 0 {
				c.Wait(s, start, 1)
			} else {
				c.WaitEvent(s, last)
			}
			c.Copy(s, p, before, n, Any)
			c.Record(e, s)
			before, last = p, e
			if i == hops-1 {
				c.Copy(s, h.HostPtr(n), p, n, ToHost)
				c.Write(s, end, 1)
			}
		}
		run(t, &c)
		want := fill(h.Bytes()[:n], 9)
		if atomic.LoadUint32(end.Host) != 0 {
			t.Error("the end came before the start")
		}
		atomic.StoreUint32(start.Host, 1)
		until(t, "the last stream", func() bool { return atomic.LoadUint32(end.Host) == 1 })
		if !bytes.Equal(h.Bytes()[n:2*n], want) {
			t.Error("the bytes were not passed on")
		}
	})
}

// child runs the tests of a pattern in a process of their own, with the same CUDA and more environment.
func child(t *testing.T, pattern string, env ...string) {
	t.Helper()
	self := must[string](t)(os.Executable())
	cmd := exec.Command(self, "-test.run", pattern, "-test.v")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: ")) {
		t.Errorf("%v %q: %v\n%s", cmd, env, err, out)
	}
}
