// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package rdma

import "syscall"

// The twin of raw_cgo.go. Nothing can be opened, so that only rawLoad is ever called.

func rawLoad() string                                         { return "built without cgo" }
func rawDevices() ([]string, syscall.Errno)                   { return nil, syscall.ENOSYS }
func rawOpen(string) (handle, int, syscall.Errno)             { return 0, -1, syscall.ENOSYS }
func rawDestroy(kind, handle) syscall.Errno                   { return syscall.ENOSYS }
func rawDeviceAttr(handle) (DeviceAttr, syscall.Errno)        { return DeviceAttr{}, syscall.ENOSYS }
func rawPort(handle, int) (PortAttr, syscall.Errno)           { return PortAttr{}, syscall.ENOSYS }
func rawGID(handle, int, int) ([16]byte, syscall.Errno)       { return [16]byte{}, syscall.ENOSYS }
func rawPKey(handle, int, int) (uint16, syscall.Errno)        { return 0, syscall.ENOSYS }
func rawNextEvent(handle) (Event, syscall.Errno)              { return Event{}, syscall.ENOSYS }
func rawAllocPD(handle) (handle, syscall.Errno)               { return 0, syscall.ENOSYS }
func rawHasDMABuf() bool                                      { return false }
func rawCreateChannel(handle) (handle, int, syscall.Errno)    { return 0, -1, syscall.ENOSYS }
func rawDrain(handle) (int, syscall.Errno)                    { return 0, syscall.ENOSYS }
func rawCreateCQ(handle, int, handle) (handle, syscall.Errno) { return 0, syscall.ENOSYS }
func rawArm(handle) syscall.Errno                             { return syscall.ENOSYS }
func rawPoll(handle, []Completion) (int, syscall.Errno)       { return 0, syscall.ENOSYS }
func rawInit(handle, int, int, Access) syscall.Errno          { return syscall.ENOSYS }
func rawReadyToReceive(handle, *Path) syscall.Errno           { return syscall.ENOSYS }
func rawReadyToSend(handle, *Path) syscall.Errno              { return syscall.ENOSYS }
func rawFail(handle) syscall.Errno                            { return syscall.ENOSYS }
func rawState(handle) (State, syscall.Errno)                  { return 0, syscall.ENOSYS }
func rawStep(*queues, []SendWR, int, []Completion) stepped    { return stepped{errno: syscall.ENOSYS} }

func rawRegister(handle, uintptr, int, Access) (h handle, lkey, rkey uint32, errno syscall.Errno) {
	return 0, 0, 0, syscall.ENOSYS
}

func rawRegisterDMABuf(pd handle, fd int, offset, length, iova uint64, a Access) (h handle, lkey, rkey uint32, errno syscall.Errno) {
	return 0, 0, 0, syscall.ENOSYS
}

func rawCreateQP(handle, QPConfig) (h handle, number uint32, inline int, errno syscall.Errno) {
	return 0, 0, 0, syscall.ENOSYS
}
