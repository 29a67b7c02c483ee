// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"
)

// PD is a protection domain: its QPs reach the memory that is registered with it.
type PD struct{ object }

// AllocPD makes a protection domain.
//
// Implements: ibv_alloc_pd.
func (d *Device) AllocPD() (*PD, error) {
	p := &PD{}
	err := p.create(kindPD, d.device, func() (handle, error) {
		h, errno := rawAllocPD(d.handle)
		return h, d.failed(errno, "ibv_alloc_pd", "")
	}, &d.object)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Close gives the protection domain back when its MRs and QPs are closed.
//
// Implements: ibv_dealloc_pd.
func (p *PD) Close() error { return p.close() }

// Access says what may be done with registered memory, enum ibv_access_flags. Reading by the own device is always
// allowed.
type Access uint32

// The rights. RemoteWrite needs LocalWrite. With RelaxedOrdering the device's writes may reach memory out of order, also
// those of one work request; a completion still comes after all of its data. It is left out, without an error, where
// the library, kernel or device does not know it.
const (
	LocalWrite      Access = 1 << 0
	RemoteWrite     Access = 1 << 1
	RemoteRead      Access = 1 << 2
	RelaxedOrdering Access = 1 << 20
)

// MR is a registered memory region: its pages are pinned, and the device knows where they are.
type MR struct {
	object
	addr       uintptr // as work requests name it
	length     int
	lkey, rkey uint32
	dmabuf     bool
}

// Register registers memory that is not Go's, e.g. from mmap; it must stay mapped until the MR is closed, and must not be
// empty. Registering touches every page and takes time in proportion. The pages count against RLIMIT_MEMLOCK
// (see [MemoryLock]); an error because of that says so.
//
// Implements: ibv_reg_mr, ibv_reg_mr_iova2.
func (p *PD) Register(mem []byte, a Access) (*MR, error) {
	if len(mem) == 0 {
		return nil, invalidf("memory to register is empty")
	}
	m := &MR{addr: uintptr(unsafe.Pointer(unsafe.SliceData(mem))), length: len(mem)}
	err := m.create(kindMR, p.device, func() (h handle, err error) {
		var errno syscall.Errno
		h, m.lkey, m.rkey, errno = rawRegister(p.handle, m.addr, m.length, a)
		return h, explainPinning(p.failed(errno, "ibv_reg_mr", "of "+size(uint64(len(mem)))))
	}, &p.object)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// RegisterDMABuf registers length bytes, from offset, of a DMA-buf, as a GPU's driver exports its memory; iova is the
// address by which work requests name its start. Offset and iova must be equal in the part that is within a page. The
// MR keeps the DMA-buf alive; the file descriptor may be closed.
//
// Implements: ibv_reg_dmabuf_mr.
func (p *PD) RegisterDMABuf(fd int, offset, length, iova uint64, a Access) (*MR, error) {
	if length == 0 || length > 1<<62 {
		return nil, invalidf("length of a DMA-buf is %d", length)
	}
	m := &MR{addr: uintptr(iova), length: int(length), dmabuf: true}
	err := m.create(kindMR, p.device, func() (h handle, err error) {
		if !rawHasDMABuf() {
			return 0, notSupported{"libibverbs.so.1 has no ibv_reg_dmabuf_mr@IBVERBS_1.12"}
		}
		var errno syscall.Errno
		h, m.lkey, m.rkey, errno = rawRegisterDMABuf(p.handle, fd, offset, length, iova, a)
		return h, p.failed(errno, "ibv_reg_dmabuf_mr", "of "+size(length))
	}, &p.object)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// explainPinning adds to an error for lack of memory what limit is in force: for regions, and for the queues of CQs and QPs, which
// providers pin too.
func explainPinning(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Errno != syscall.ENOMEM {
		return err
	}
	limit, unlimited, limitErr := MemoryLock()
	switch {
	case limitErr != nil:
		e.Detail = limitErr.Error()
	case unlimited:
		e.Detail = "RLIMIT_MEMLOCK does not limit this process: the machine's memory or the device's tables are full, or a queue is longer than the device has"
	default:
		e.Detail = fmt.Sprintf("RLIMIT_MEMLOCK is %s for all registered memory of this process, queues included: raise it, by ulimit -l or LimitMEMLOCK=", size(limit))
	}
	return e
}

// LKey returns the key that work requests of the own QPs name the memory by.
func (m *MR) LKey() uint32 { return m.lkey }

// RKey returns the key that work requests of peers name the memory by.
func (m *MR) RKey() uint32 { return m.rkey }

// Addr returns the address that work requests name the first byte by: where it is mapped here, or a DMA-buf's iova.
func (m *MR) Addr() uintptr { return m.addr }

// Len returns the length in bytes.
func (m *MR) Len() int { return m.length }

// Covers reports whether b lies within the region. An empty b lies in every region, and a DMA-buf covers nothing else.
func (m *MR) Covers(b []byte) bool {
	if len(b) == 0 || m.dmabuf {
		return len(b) == 0
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return at >= m.addr && at-m.addr <= uintptr(m.length) && len(b) <= m.length-int(at-m.addr)
}

// Close ends the registration. The device must be done with the memory: close its QPs first, or see that nothing is
// posted and that no peer writes.
//
// Implements: ibv_dereg_mr.
func (m *MR) Close() error { return m.close() }
