// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// place is a port that tests can use: active, with a GID that is routed if it is Ethernet.
type place struct {
	device string
	port   int
	attr   PortAttr
	gid    GID
}

// places returns a usable port of each device, or ends the test as missing the feature.
func places(t testing.TB) (all []place) {
	t.Helper()
	if err := Available(); err != nil {
		testreq.Missing(t, "verbs", err.Error())
	}
	infos, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		all = append(all, placesOf(t, info)...)
	}
	if len(all) == 0 {
		testreq.Missing(t, "verbs", fmt.Sprintf("no active port with a GID on %v", infos))
	}
	return all
}

func placesOf(t testing.TB, info DeviceInfo) []place {
	t.Helper()
	d, err := Open(info.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, d)
	for port := 1; port <= info.Ports; port++ {
		attr, err := d.Port(port)
		if err != nil {
			t.Fatal(err)
		}
		if attr.State != PortActive {
			continue
		}
		gids, err := d.GIDs(port)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range gids {
			if g.Type == GIDInfiniBand || g.Type == GIDRoCEv2 && !g.Addr().IsLinkLocalUnicast() {
				return []place{{info.Name, port, attr, g}}
			}
		}
	}
	return nil
}

// closer is any object.
type closer interface{ Close() error }

func closeAll(t testing.TB, all ...closer) {
	t.Helper()
	for _, c := range all {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// end is one end of a connection, with all that it needs; tests leave closing to its cleanup.
type end struct {
	t     testing.TB
	place place
	dev   *Device
	pd    *PD
	ch    *Channel
	cq    *CQ
	qp    *QP
	mem   []byte
	mr    *MR
}

// endConfig are the sizes of an end; zero fields have defaults.
type endConfig struct {
	memory, cqe, maxSend, maxRecv, maxInline int
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// mapped returns memory that is not Go's.
func mapped(t testing.TB, bytes int) []byte {
	t.Helper()
	b := must[[]byte](t)(unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON))
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	return b
}

func newEnd(t testing.TB, p place, c endConfig) *end {
	t.Helper()
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.memory, 1<<16)
	def(&c.cqe, 256)
	def(&c.maxSend, 64)
	def(&c.maxRecv, 64)
	e := &end{t: t, place: p, mem: mapped(t, c.memory)}
	e.dev = must[*Device](t)(Open(p.device))
	t.Cleanup(func() { closeAll(t, e.dev) })
	e.pd = must[*PD](t)(e.dev.AllocPD())
	t.Cleanup(func() { closeAll(t, e.pd) })
	e.mr = must[*MR](t)(e.pd.Register(e.mem, LocalWrite|RemoteWrite|RemoteRead|RelaxedOrdering))
	t.Cleanup(func() { closeAll(t, e.mr) })
	e.ch = must[*Channel](t)(e.dev.CreateChannel())
	t.Cleanup(func() { closeAll(t, e.ch) })
	e.cq = must[*CQ](t)(e.dev.CreateCQ(c.cqe, e.ch))
	t.Cleanup(func() { closeAll(t, e.cq) })
	e.qp = must[*QP](t)(e.pd.CreateQP(QPConfig{Send: e.cq, Recv: e.cq, MaxSend: c.maxSend, MaxRecv: c.maxRecv, MaxInline: c.maxInline}))
	t.Cleanup(func() { closeAll(t, e.qp) })
	if err := e.qp.Init(p.port, 0, LocalWrite|RemoteWrite|RemoteRead); err != nil {
		t.Fatal(err)
	}
	return e
}

// path returns how to reach b from a: it gives up after about half a second.
func path(a, b *end) Path {
	return Path{
		RemoteQP: b.qp.Number(), RemotePSN: b.qp.Number() & 0xfff, RemoteLID: b.place.attr.LID, RemoteGID: b.place.gid.Raw,
		Port: a.place.port, GIDIndex: a.place.gid.Index, HopLimit: 64, MTU: min(a.place.attr.ActiveMTU, b.place.attr.ActiveMTU),
		LocalPSN: a.qp.Number() & 0xfff, Timeout: 14, Retry: 6, RNRRetry: 6, MinRNRTimer: 1, MaxRDAtomic: 1,
	}
}

func connect(a, b *end, change func(*Path)) {
	a.t.Helper()
	for _, way := range [][2]*end{{a, b}, {b, a}} {
		p := path(way[0], way[1])
		if change != nil {
			change(&p)
		}
		if err := way[0].qp.Connect(p); err != nil {
			a.t.Fatal(err)
		}
	}
}

// newPair returns two connected ends, on two devices if there are two.
func newPair(t testing.TB, c endConfig) (a, b *end) {
	t.Helper()
	all := places(t)
	a, b = newEnd(t, all[0], c), newEnd(t, all[len(all)-1], c)
	connect(a, b, nil)
	return a, b
}

// eachPair runs a test with both ends on one device, and on two if there are two.
func eachPair(t *testing.T, c endConfig, test func(t *testing.T, a, b *end)) {
	all := places(t)
	for i, other := range all[:min(2, len(all))] {
		t.Run(fmt.Sprintf("devices=%d", i+1), func(t *testing.T) {
			a, b := newEnd(t, all[0], c), newEnd(t, other, c)
			connect(a, b, nil)
			test(t, a, b)
		})
	}
}

// write is a signaled write of some bytes at an offset, the same on both sides.
func (e *end) write(to *end, id uint64, offset, bytes int) SendWR {
	return SendWR{
		ID: id, Op: Write, Flags: Signaled, Addr: uint64(e.mr.Addr()) + uint64(offset), Bytes: uint32(bytes), LKey: e.mr.LKey(),
		RemoteAddr: uint64(to.mr.Addr()) + uint64(offset), RKey: to.mr.RKey(),
	}
}

// post posts, and fails the test unless all is taken.
func (e *end) post(receives int, sends ...SendWR) {
	e.t.Helper()
	posted, _, err := e.qp.Step(sends, receives, nil)
	if err != nil || posted != len(sends) {
		e.t.Fatalf("posted %d of %d sends: %v", posted, len(sends), err)
	}
}

// take waits for n completions.
func (e *end) take(n int) []Completion {
	e.t.Helper()
	done, have := make([]Completion, n), 0
	for deadline := time.Now().Add(20 * time.Second); have < n; {
		_, k, err := e.qp.Step(nil, 0, done[have:])
		if err != nil {
			e.t.Fatal(err)
		}
		if have += k; k == 0 {
			runtime.Gosched()
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%d of %d completions on %s: %+v", have, n, e.place.device, done[:have])
		}
	}
	return done
}

// want takes completions and compares them, but for the QP's number, which must be this one's, and VendorErr.
func (e *end) want(all ...Completion) {
	e.t.Helper()
	for i, got := range e.take(len(all)) {
		if got.QP != e.qp.Number() {
			e.t.Errorf("completion %d is of QP %#x, want %#x", i, got.QP, e.qp.Number())
		}
		got.QP, got.VendorErr = 0, 0
		if got != all[i] {
			e.t.Errorf("completion %d is\n%+v, want\n%+v", i, got, all[i])
		}
	}
}

// fill writes a pattern that depends on the place and the seed.
func fill(b []byte, seed int) {
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}

// errno returns the errno of an *Error, 0 if there is none.
func errno(err error) unix.Errno {
	var e *Error
	if errors.As(err, &e) {
		return e.Errno
	}
	return 0
}
