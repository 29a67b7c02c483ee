// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDeviceAttributes(t *testing.T) {
	for _, p := range places(t) {
		d := must[*Device](t)(Open(p.device))
		if d.Name() != p.device {
			t.Errorf("%s says its name is %s", p.device, d.Name())
		}
		a, err := d.Attributes()
		t.Logf("%s: %+v", p.device, a)
		if err != nil || a.MaxQP < 1 || a.MaxQPWR < 1 || a.MaxCQE < 1 || a.MaxMR < 1 || a.MaxMRSize < 1<<20 || a.MaxSGE < 1 || a.Ports < p.port {
			t.Errorf("%s: %+v, %v", p.device, a, err)
		}
		t.Logf("port %d: %+v, GID %v", p.port, p.attr, p.gid)
		if p.attr.LinkLayer == Ethernet && !p.attr.GRHRequired {
			t.Errorf("%s:%d is Ethernet and says that it needs no GID", p.device, p.port)
		}
		if p.attr.ActiveMTU < 256 || p.attr.ActiveMTU > p.attr.MaxMTU || p.attr.MaxMessageBytes < 1<<16 || p.attr.GIDs < 1 || p.attr.PKeys < 1 {
			t.Errorf("%s: %+v", p.device, p.attr)
		}
		if key, err := d.PKey(p.port, 0); err != nil || key&0x7fff == 0 {
			t.Errorf("partition key %#x, %v", key, err)
		}
		if _, ok, err := d.NextEvent(); ok || err != nil {
			t.Errorf("an event when nothing happened: %v", err)
		}
		closeAll(t, d, d)
	}
}

func TestDeviceRefuses(t *testing.T) {
	p := places(t)[0]
	d := must[*Device](t)(Open(p.device))
	defer closeAll(t, d)
	_, portErr := d.Port(0)
	_, farErr := d.Port(250)
	_, keyErr := d.PKey(p.port, 60000)
	_, openErr := Open("none0")
	if !errors.Is(portErr, ErrInvalid) || errno(farErr) == 0 || errno(keyErr) == 0 || errno(openErr) != unix.ENODEV {
		t.Errorf("errors %v, %v, %v, %v", portErr, farErr, keyErr, openErr)
	}
	for _, err := range []error{farErr, keyErr} {
		if !strings.HasPrefix(err.Error(), "rdma: ibv_query_p") || !strings.Contains(err.Error(), " on "+p.device+": ") {
			t.Errorf("the error is %q", err)
		}
	}
}

func TestDeviceClosed(t *testing.T) {
	e := newEnd(t, places(t)[0], endConfig{})
	closeAll(t, e.dev, e.pd, e.ch, e.cq, e.mr)
	_, attrErr := e.dev.Attributes()
	_, pdErr := e.dev.AllocPD()
	_, mrErr := e.pd.Register(e.mem, LocalWrite)
	_, drainErr := e.ch.Drain()
	_, pollErr := e.cq.Poll(make([]Completion, 1))
	_, qpErr := e.pd.CreateQP(QPConfig{Send: e.cq, Recv: e.cq, MaxSend: 1})
	for _, err := range []error{attrErr, pdErr, mrErr, drainErr, pollErr, qpErr, e.cq.Arm()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	}
	if s, err := e.qp.State(); err != nil || s != StateInit {
		t.Errorf("the QP, which is open, is in %v, %v", s, err)
	}
	closeAll(t, e.qp)
	if _, _, err := e.qp.Step(nil, 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

// TestDeviceCloseInAnyOrder: libibverbs refuses none of it, and at the end nothing is left.
func TestDeviceCloseInAnyOrder(t *testing.T) {
	p := places(t)[0]
	before, seed := Live(), rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		t.Run("", func(t *testing.T) {
			e := newEnd(t, p, endConfig{})
			all := []closer{e.dev, e.pd, e.mr, e.ch, e.cq, e.qp}
			for _, i := range random.Perm(len(all)) {
				closeAll(t, all[i])
			}
			if now := Live(); len(now) != len(before) {
				t.Errorf("seed %d: live are %v, before were %v", seed, now, before)
			}
		})
	}
}

func TestMemoryRegister(t *testing.T) {
	d := must[*Device](t)(Open(places(t)[0].device))
	pd := must[*PD](t)(d.AllocPD())
	defer closeAll(t, pd, d)
	mem := mapped(t, 4<<20)
	mr := must[*MR](t)(pd.Register(mem[4096:], LocalWrite|RemoteWrite|RelaxedOrdering))
	defer closeAll(t, mr)
	if mr.Len() != len(mem)-4096 || mr.LKey() == 0 || mr.RKey() == 0 {
		t.Errorf("%d bytes, LKey %d, RKey %d", mr.Len(), mr.LKey(), mr.RKey())
	}
	for _, c := range []struct {
		b    []byte
		want bool
	}{
		{mem[4096:], true}, {mem[4096:4096], true}, {mem[8192:8193], true}, {mem[len(mem):], true}, {nil, true}, {mem[len(mem)-1:], true},
		{mem, false}, {mem[4095:4097], false}, {mem[:4096], false}, {make([]byte, 1), false},
	} {
		if mr.Covers(c.b) != c.want {
			t.Errorf("Covers(%p, %d bytes) is %t; the region is at %#x", c.b, len(c.b), !c.want, mr.Addr())
		}
	}
	if _, err := pd.Register(nil, LocalWrite); !errors.Is(err, ErrInvalid) {
		t.Errorf("registering nothing: %v", err)
	}
	if _, err := pd.Register(mem, RemoteWrite); errno(err) != unix.EINVAL {
		t.Errorf("RemoteWrite without LocalWrite: %v", err)
	}
}

func TestMemoryThatCannotBePinned(t *testing.T) {
	d := must[*Device](t)(Open(places(t)[0].device))
	pd := must[*PD](t)(d.AllocPD())
	defer closeAll(t, pd, d)
	for _, c := range []struct {
		name       string
		bytes      int
		protection int
		says       string
	}{
		{"not accessible", 1 << 20, unix.PROT_NONE, "rdma: ibv_reg_mr of 1 MiB on "},
		{"more than there is", 1 << 44, unix.PROT_READ | unix.PROT_WRITE, "rdma: ibv_reg_mr of 16 TiB on "},
	} {
		mem, err := unix.Mmap(-1, 0, c.bytes, c.protection, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil {
			t.Logf("%s: %v", c.name, err) // overcommit is off
			continue
		}
		_, err = pd.Register(mem, LocalWrite)
		t.Log(err)
		if errno(err) == 0 || !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := unix.Munmap(mem); err != nil {
			t.Fatal(err)
		}
	}
	_, err := pd.RegisterDMABuf(int(os.Stdin.Fd()), 0, 4096, 0, LocalWrite)
	t.Log(err)
	if !errors.Is(err, ErrNotSupported) && errno(err) == 0 {
		t.Errorf("standard input as a DMA-buf: %v", err)
	}
}

// TestMemoryBeyondLimit: the error names the limit that an unprivileged process ran into.
func TestMemoryBeyondLimit(t *testing.T) {
	d := must[*Device](t)(Open(places(t)[0].device))
	pd := must[*PD](t)(d.AllocPD())
	defer closeAll(t, pd, d)
	mem := mapped(t, 1<<20)
	limitMemory(t, 1<<16)
	var err error
	withoutIPCLock(t, func() { _, err = pd.Register(mem, LocalWrite) })
	want := "rdma: ibv_reg_mr of 1 MiB on " + d.Name() + ": cannot allocate memory (RLIMIT_MEMLOCK is 64 KiB "
	if !errors.Is(err, unix.ENOMEM) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s...", err, want)
	}
}

func TestQPConfig(t *testing.T) {
	p := places(t)[0]
	e, other := newEnd(t, p, endConfig{}), newEnd(t, p, endConfig{})
	good := QPConfig{Send: e.cq, Recv: e.cq, MaxSend: 1}
	for _, spoil := range []func(*QPConfig){
		func(c *QPConfig) { c.Send = nil }, func(c *QPConfig) { c.Recv = other.cq }, func(c *QPConfig) { c.MaxSend = 0 },
		func(c *QPConfig) { c.MaxRecv = -1 }, func(c *QPConfig) { c.MaxInline = -1 },
	} {
		bad := good
		spoil(&bad)
		if _, err := e.pd.CreateQP(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := e.dev.CreateCQ(1, other.ch); !errors.Is(err, ErrInvalid) {
		t.Errorf("a channel of another opening: %v", err)
	}
	good.MaxInline = 1 << 20
	q := must[*QP](t)(e.pd.CreateQP(good))
	t.Logf("inline %d", q.MaxInline())
	if q.MaxInline() < 0 || q.MaxInline() > 1<<20 {
		t.Errorf("inline is %d", q.MaxInline())
	}
	closeAll(t, q)
	good.MaxSend = 1 << 30
	if _, err := e.pd.CreateQP(good); errno(err) == 0 {
		t.Errorf("a QP of 2^30 sends: %v", err)
	}
}

// TestEvents: more completions than a CQ holds break it, which is an event; objects close with events taken and not.
func TestEvents(t *testing.T) {
	for _, take := range []bool{true, false} {
		_, b := newPair(t, endConfig{cqe: 1})
		b.post(60) // and all of them complete at once
		if err := b.qp.Fail(); err != nil {
			t.Fatal(err)
		}
		if !readable(t, b.dev.EventFD(), 5*time.Second) {
			t.Logf("%s gives no event for a CQ that is too small", b.place.device)
			continue
		}
		if !take {
			continue
		}
		event, ok, err := b.dev.NextEvent()
		t.Log(event, ok, err)
		if !ok || err != nil || event.Kind != EventCQError && event.Kind != EventQPFatal {
			t.Errorf("event %v, %t, %v", event, ok, err)
		}
	}
}

// readable waits until a file descriptor is.
func readable(t testing.TB, fd int, timeout time.Duration) bool {
	t.Helper()
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(set, int(timeout.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
}
