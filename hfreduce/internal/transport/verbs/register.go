// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"errors"
	"slices"
	"unsafe"

	"github.com/hfreduce/hfreduce/rdma"
)

// region is memory that is registered with every port.
type region struct {
	mem  []byte
	keys []*rdma.MR // by port
}

// covers reports whether b lies within the region.
func (r *region) covers(b []byte) bool {
	at, start := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(r.mem)))
	return at >= start && at-start <= uintptr(len(r.mem)) && len(b) <= len(r.mem)-int(at-start)
}

// Register implements transport.Registrar: memory is registered with each port that this rank uses. Without RDMA here, it
// does nothing, or is an error if only RDMA will do.
func (t *Transport) Register(mem []byte) (unregister func() error, err error) {
	nothing := func() error { return nil }
	if err := t.ready(); err != nil {
		if t.cfg.Required {
			return nil, err
		}
		return nothing, nil
	}
	r, err := t.register(mem)
	if err != nil {
		t.mu.Lock()
		t.unfit = err
		t.mu.Unlock()
		if t.cfg.Required {
			return nil, err
		}
		t.log.Warn("verbs: memory can't be registered, links that need it go over TCP", "bytes", len(mem), "cause", err)
		return nothing, nil
	}
	return func() error { return t.unregister(r) }, nil
}

func (t *Transport) register(mem []byte) (*region, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.regions.Load()
	need := uint64(len(mem))
	for _, r := range old {
		need += uint64(len(r.mem))
	}
	if err := checkMemoryLock(need*uint64(len(t.ports)), rdma.MemoryLock); err != nil {
		return nil, err
	}
	r := &region{mem: mem}
	for _, p := range t.ports {
		mr, err := p.pd.Register(mem, rdma.LocalWrite|rdma.RemoteWrite|rdma.RelaxedOrdering)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.keys = append(r.keys, mr)
	}
	all := append(slices.Clone(old), r)
	t.regions.Store(&all)
	return r, nil
}

func (t *Transport) unregister(r *region) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.regions.Load()), func(x *region) bool { return x == r })
	t.regions.Store(&all)
	return r.close()
}

func (r *region) close() error {
	var errs []error
	for _, mr := range r.keys {
		errs = append(errs, mr.Close())
	}
	return errors.Join(errs...)
}

// find returns the region that covers b, nil if none does. It allocates nothing.
func (t *Transport) find(b []byte) *region {
	for _, r := range *t.regions.Load() {
		if r.covers(b) {
			return r
		}
	}
	return nil
}
