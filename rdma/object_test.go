// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// family is a set of objects without libibverbs, and the order in which they were destroyed.
type family struct {
	device, pd, mr, channel, cq, qp object

	mu        sync.Mutex
	destroyed []kind
	refuse    map[kind]syscall.Errno
}

// newFamily makes one object of each kind, with the parents that the real ones have.
func newFamily(t *testing.T) *family {
	f := &family{refuse: map[kind]syscall.Errno{}}
	f.make(t, &f.device, kindDevice)
	f.make(t, &f.pd, kindPD, &f.device)
	f.make(t, &f.mr, kindMR, &f.pd)
	f.make(t, &f.channel, kindChannel, &f.device)
	f.make(t, &f.cq, kindCQ, &f.device, &f.channel)
	f.make(t, &f.qp, kindQP, &f.pd, &f.cq, &f.cq)
	return f
}

func (f *family) make(t *testing.T, o *object, k kind, parents ...*object) {
	t.Helper()
	o.destroy = func(k kind, h handle) syscall.Errno {
		if h != handle(100+k) {
			t.Errorf("destroying a %v with handle %d", k, h)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.destroyed = append(f.destroyed, k)
		return f.refuse[k]
	}
	if err := o.create(k, "fake0", func() (handle, error) { return handle(100 + k), nil }, parents...); err != nil {
		t.Fatal(err)
	}
}

func (f *family) all() []*object {
	return []*object{&f.device, &f.pd, &f.mr, &f.channel, &f.cq, &f.qp}
}

func (f *family) want(t *testing.T, kinds ...kind) {
	t.Helper()
	if !slices.Equal(f.destroyed, kinds) {
		t.Errorf("destroyed are %v, want %v", f.destroyed, kinds)
	}
}

func TestObjectKeepsParents(t *testing.T) {
	f := newFamily(t)
	if n := Live(); n["qp"] != 1 || n["cq"] != 1 || n["device"] != 1 || len(n) != 6 {
		t.Errorf("live are %v, want one of each kind", n)
	}
	for _, o := range []*object{&f.device, &f.pd, &f.channel, &f.cq} {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}
	f.want(t)
	if err := f.qp.close(); err != nil {
		t.Error(err)
	}
	f.want(t, kindQP, kindCQ, kindChannel)
	if err := f.mr.close(); err != nil {
		t.Error(err)
	}
	f.want(t, kindQP, kindCQ, kindChannel, kindMR, kindPD, kindDevice)
	if n := Live(); len(n) != 0 {
		t.Errorf("live are %v, want none", n)
	}
}

// TestObjectCloseInAnyOrder: whatever the order, each is destroyed once, and before what it is made of.
func TestObjectCloseInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		f := newFamily(t)
		for _, i := range random.Perm(len(f.all())) {
			for range 2 {
				if err := f.all()[i].close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := func(k kind) int { return slices.Index(f.destroyed, k) }
		if len(f.destroyed) != int(kinds) || at(kindQP) > at(kindCQ) || at(kindQP) > at(kindPD) || at(kindMR) > at(kindPD) ||
			at(kindCQ) > at(kindChannel) || at(kindDevice) != int(kinds)-1 {
			t.Fatalf("seed %d: destroyed in the order %v", seed, f.destroyed)
		}
	}
}

func TestObjectOfClosedParents(t *testing.T) {
	f := newFamily(t)
	if err := f.cq.close(); err != nil {
		t.Fatal(err)
	}
	var o object
	err := o.create(kindQP, "fake0", func() (handle, error) {
		t.Error("was built of a closed object")
		return 1, nil
	}, &f.pd, &f.cq)
	if !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	broken := errors.New("broken")
	if err := o.create(kindMR, "fake0", func() (handle, error) { return 0, broken }, &f.pd); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	for _, o := range f.all() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}
	if n := Live(); len(n) != 0 {
		t.Errorf("live are %v: a failed creation kept its parents", n)
	}
}

func TestObjectIsKeptDuringCalls(t *testing.T) {
	f := newFamily(t)
	err := f.mr.with(func() error {
		for _, o := range f.all() {
			if err := o.close(); err != nil {
				t.Error(err)
			}
		}
		f.want(t, kindQP, kindCQ, kindChannel)
		if err := f.mr.with(func() error { return nil }); !errors.Is(err, ErrClosed) {
			t.Errorf("a call of a closed object gave %v, want ErrClosed", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	f.want(t, kindQP, kindCQ, kindChannel, kindMR, kindPD, kindDevice)
}

func TestObjectCloseWhileUsed(t *testing.T) {
	for range 200 {
		f := newFamily(t)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for f.qp.with(func() error { return nil }) == nil {
				}
			})
		}
		for _, o := range f.all() {
			wg.Go(func() {
				if err := o.close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(f.destroyed) != int(kinds) {
			t.Fatalf("destroyed are %v", f.destroyed)
		}
	}
}

func TestObjectThatIsNotGivenBack(t *testing.T) {
	f := newFamily(t)
	f.refuse[kindPD] = syscall.EBUSY
	for _, o := range f.all()[:5] {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}
	err := f.qp.close()
	if want := "rdma: ibv_dealloc_pd on fake0: device or resource busy"; err == nil || err.Error() != want || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("error %q, want %q", err, want)
	}
	if n := Live(); n["pd"] != 1 || len(n) != 1 {
		t.Errorf("live are %v, want the pd", n)
	}
	live[kindPD].Add(-1)
}
