// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package rdma

// #cgo CFLAGS: -std=gnu11 -O2 -Wall -Wextra
// #cgo LDFLAGS: -ldl
// #cgo noescape vb_step
// #cgo nocallback vb_step
// #cgo noescape vb_poll
// #cgo nocallback vb_poll
// #cgo noescape vb_drain
// #cgo nocallback vb_drain
// #cgo nocallback vb_arm
// #include "seam.h"
// #include <stdlib.h>
import "C"

import (
	"syscall"
	"unsafe"
)

// This file turns the functions of seam.h into Go's, one to one. No C type leaves it.

// The layouts of what C reads and writes in place: a difference that is not 0 does not compile.
var (
	goSend, goDone = SendWR{}, Completion{}
	cSend, cDone   = C.struct_vb_send{}, C.struct_vb_completion{}

	_ [0]struct{} = [unsafe.Sizeof(goSend) - unsafe.Sizeof(cSend)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goSend.Flags) - unsafe.Offsetof(cSend.flags)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goSend.Addr) - unsafe.Offsetof(cSend.addr)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goSend.LKey) - unsafe.Offsetof(cSend.lkey)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goSend.RemoteAddr) - unsafe.Offsetof(cSend.remote_addr)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goSend.Imm) - unsafe.Offsetof(cSend.imm)]struct{}{}
	_ [0]struct{} = [unsafe.Sizeof(goDone) - unsafe.Sizeof(cDone)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goDone.Op) - unsafe.Offsetof(cDone.op)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goDone.Imm) - unsafe.Offsetof(cDone.imm)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goDone.VendorErr) - unsafe.Offsetof(cDone.vendor)]struct{}{}
	_ [0]struct{} = [unsafe.Offsetof(goDone.WithImm) - unsafe.Offsetof(cDone.with_imm)]struct{}{}
)

func rawLoad() string {
	var text [256]C.char
	if C.vb_load(&text[0], C.int(len(text))) == 0 {
		return ""
	}
	return C.GoString(&text[0])
}

func rawHasDMABuf() bool { return C.vb_has_dmabuf() != 0 }

func rawDevices() ([]string, syscall.Errno) {
	var names [256][C.VB_NAME]C.char
	var count C.int
	if e := C.vb_devices(&names[0], C.int(len(names)), &count); e != 0 {
		return nil, syscall.Errno(e)
	}
	list := make([]string, min(int(count), len(names)))
	for i := range list {
		list[i] = C.GoString(&names[i][0])
	}
	return list, 0
}

func rawOpen(name string) (handle, int, syscall.Errno) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	var h C.vb_handle
	var fd C.int
	e := C.vb_open(s, &h, &fd)
	return handle(h), int(fd), syscall.Errno(e)
}

func rawDestroy(k kind, h handle) syscall.Errno {
	return syscall.Errno(C.vb_destroy(C.int(k), C.vb_handle(h)))
}

func rawDeviceAttr(d handle) (DeviceAttr, syscall.Errno) {
	var a C.struct_vb_device_attr
	if e := C.vb_query_device(C.vb_handle(d), &a); e != 0 {
		return DeviceAttr{}, syscall.Errno(e)
	}
	return DeviceAttr{
		Firmware: C.GoString(&a.firmware[0]), NodeGUID: uint64(a.node_guid), MaxMRSize: uint64(a.max_mr_size),
		VendorID: uint32(a.vendor_id), VendorPartID: uint32(a.vendor_part_id), Ports: int(a.ports),
		MaxQP: int(a.max_qp), MaxQPWR: int(a.max_qp_wr), MaxSGE: int(a.max_sge), MaxCQ: int(a.max_cq), MaxCQE: int(a.max_cqe),
		MaxMR: int(a.max_mr), MaxPD: int(a.max_pd), MaxRDAtomic: int(a.max_rd_atomic),
	}, 0
}

func rawPort(d handle, port int) (PortAttr, syscall.Errno) {
	var a C.struct_vb_port_attr
	if e := C.vb_query_port(C.vb_handle(d), C.int(port), &a); e != 0 {
		return PortAttr{}, syscall.Errno(e)
	}
	return PortAttr{
		State: PortState(a.state), LinkLayer: LinkLayer(a.link_layer), ActiveMTU: mtuBytes(uint32(a.active_mtu)),
		MaxMTU: mtuBytes(uint32(a.max_mtu)), MaxMessageBytes: uint32(a.max_message), LID: uint16(a.lid),
		GIDs: int(a.gids), PKeys: int(a.pkeys), GRHRequired: a.grh_required != 0,
	}, 0
}

func rawGID(d handle, port, index int) (gid [16]byte, errno syscall.Errno) {
	e := C.vb_query_gid(C.vb_handle(d), C.int(port), C.int(index), (*C.uint8_t)(&gid[0]))
	return gid, syscall.Errno(e)
}

func rawPKey(d handle, port, index int) (uint16, syscall.Errno) {
	var key C.uint16_t
	e := C.vb_query_pkey(C.vb_handle(d), C.int(port), C.int(index), &key)
	return uint16(key), syscall.Errno(e)
}

func rawNextEvent(d handle) (Event, syscall.Errno) {
	var event C.struct_vb_event
	e := C.vb_next_event(C.vb_handle(d), &event)
	return Event{Kind: EventKind(event.kind), Port: int(event.port), QP: uint32(event.qp)}, syscall.Errno(e)
}

func rawAllocPD(d handle) (handle, syscall.Errno) {
	var h C.vb_handle
	e := C.vb_alloc_pd(C.vb_handle(d), &h)
	return handle(h), syscall.Errno(e)
}

func rawRegister(pd handle, addr uintptr, length int, a Access) (h handle, lkey, rkey uint32, errno syscall.Errno) {
	var mr C.struct_vb_mr
	e := C.vb_reg_mr(C.vb_handle(pd), C.uintptr_t(addr), C.uint64_t(length), C.uint32_t(a), &mr)
	return handle(mr.mr), uint32(mr.lkey), uint32(mr.rkey), syscall.Errno(e)
}

func rawRegisterDMABuf(pd handle, fd int, offset, length, iova uint64, a Access) (h handle, lkey, rkey uint32, errno syscall.Errno) {
	var mr C.struct_vb_mr
	e := C.vb_reg_dmabuf(C.vb_handle(pd), C.int(fd), C.uint64_t(offset), C.uint64_t(length), C.uint64_t(iova), C.uint32_t(a), &mr)
	return handle(mr.mr), uint32(mr.lkey), uint32(mr.rkey), syscall.Errno(e)
}

func rawCreateChannel(d handle) (handle, int, syscall.Errno) {
	var h C.vb_handle
	var fd C.int
	e := C.vb_create_channel(C.vb_handle(d), &h, &fd)
	return handle(h), int(fd), syscall.Errno(e)
}

func rawDrain(channel handle) (int, syscall.Errno) {
	var n C.int
	e := C.vb_drain(C.vb_handle(channel), &n)
	return int(n), syscall.Errno(e)
}

func rawCreateCQ(d handle, entries int, channel handle) (handle, syscall.Errno) {
	var h C.vb_handle
	e := C.vb_create_cq(C.vb_handle(d), C.int(entries), C.vb_handle(channel), &h)
	return handle(h), syscall.Errno(e)
}

func rawArm(cq handle) syscall.Errno { return syscall.Errno(C.vb_arm(C.vb_handle(cq))) }

func rawCreateQP(pd handle, c QPConfig) (h handle, number uint32, inline int, errno syscall.Errno) {
	var qp C.struct_vb_qp
	e := C.vb_create_qp(C.vb_handle(pd), C.vb_handle(c.Send.handle), C.vb_handle(c.Recv.handle),
		C.uint32_t(c.MaxSend), C.uint32_t(c.MaxRecv), C.uint32_t(c.MaxInline), &qp)
	return handle(qp.qp), uint32(qp.number), int(qp.max_inline), syscall.Errno(e)
}

func rawInit(qp handle, port, pkeyIndex int, a Access) syscall.Errno {
	return syscall.Errno(C.vb_to_init(C.vb_handle(qp), C.int(port), C.int(pkeyIndex), C.uint32_t(a)))
}

func rawReadyToReceive(qp handle, p *Path) syscall.Errno {
	path := rawPath(p)
	return syscall.Errno(C.vb_to_rtr(C.vb_handle(qp), &path))
}

func rawReadyToSend(qp handle, p *Path) syscall.Errno {
	path := rawPath(p)
	return syscall.Errno(C.vb_to_rts(C.vb_handle(qp), &path))
}

func rawPath(p *Path) C.struct_vb_path {
	path := C.struct_vb_path{
		remote_qp: C.uint32_t(p.RemoteQP), remote_psn: C.uint32_t(p.RemotePSN), local_psn: C.uint32_t(p.LocalPSN),
		mtu: C.uint32_t(mtuEnum(p.MTU)), gid_index: C.int32_t(p.GIDIndex), remote_lid: C.uint16_t(p.RemoteLID),
		port: C.uint8_t(p.Port), sl: C.uint8_t(p.SL), traffic_class: C.uint8_t(p.TrafficClass), hop_limit: C.uint8_t(p.HopLimit),
		timeout: C.uint8_t(p.Timeout), retry: C.uint8_t(p.Retry), rnr_retry: C.uint8_t(p.RNRRetry),
		min_rnr_timer: C.uint8_t(p.MinRNRTimer), max_rd_atomic: C.uint8_t(p.MaxRDAtomic),
	}
	for i, b := range p.RemoteGID {
		path.remote_gid[i] = C.uint8_t(b)
	}
	return path
}

func rawFail(qp handle) syscall.Errno { return syscall.Errno(C.vb_to_error(C.vb_handle(qp))) }

func rawState(qp handle) (State, syscall.Errno) {
	var s C.uint32_t
	e := C.vb_query_state(C.vb_handle(qp), &s)
	return State(s), syscall.Errno(e)
}

func rawStep(q *queues, send []SendWR, receives int, done []Completion) stepped {
	s := C.vb_step(C.vb_handle(q.qp), C.vb_handle(q.send), C.vb_handle(q.recv),
		(*C.struct_vb_send)(unsafe.Pointer(unsafe.SliceData(send))), C.int(len(send)), C.int(receives),
		(*C.struct_vb_completion)(unsafe.Pointer(unsafe.SliceData(done))), C.int(len(done)))
	return stepped{posted: int(s.posted), polled: int(s.polled), errno: syscall.Errno(s.error), verb: int(s.verb)}
}

func rawPoll(cq handle, done []Completion) (int, syscall.Errno) {
	s := C.vb_poll(C.vb_handle(cq), (*C.struct_vb_completion)(unsafe.Pointer(unsafe.SliceData(done))), C.int(len(done)))
	return int(s.polled), syscall.Errno(s.error)
}
