// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Process is another member's process. It is watched by a pidfd, which members hand each other, so that numbers of
// processes do not matter: they may be in different pid namespaces. Its end is noticed also where a child that it forked
// has inherited its sockets, and keeps them open.
type Process struct{ file *os.File }

// newProcess takes a pidfd over.
func newProcess(fd int) (*Process, error) {
	if err := unix.SetNonblock(fd, true); err != nil { // else package os would not wait for it by its poller
		return nil, fmt.Errorf("pidfd: %w", err)
	}
	return &Process{os.NewFile(uintptr(fd), "pidfd")}, nil
}

// Wait blocks until the process has ended, and returns true, or until Close.
func (p *Process) Wait() (ended bool) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n == 1
	})
	return err == nil
}

// Close ends Wait. The process is not touched.
func (p *Process) Close() { _ = p.file.Close() }

// peerProcess returns a pidfd of the process at the other end. It fails in kernels before 5.3, where seccomp forbids it, and
// in kernels before 6.5 if the process is in another pid namespace.
func peerProcess(conn *net.UnixConn, pid int32) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if err := raw.Control(func(s uintptr) {
		fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	}); err != nil {
		return -1, err
	}
	if err == nil {
		return fd, nil
	}
	return unix.PidfdOpen(int(pid), 0)
}

// processes opens the members' processes, for those in the set. Where that fails, what happens to a process is seen by its
// connections only. The caller owns the descriptors.
func (r *reception) processes() (m bitmap, fds []int) {
	for i, a := range r.members {
		var fd int
		var err error
		if a == nil { // this one
			fd, err = unix.PidfdOpen(os.Getpid(), 0)
		} else {
			fd, err = peerProcess(a.conn, a.pid)
		}
		if err == nil {
			m.add(i)
			fds = append(fds, fd)
		}
	}
	return m, fds
}

// introduce gives everybody the processes, this member's segment included. Who does not get them goes without.
func (r *reception) introduce(s *Segment) {
	m, fds := r.processes()
	frame, rights := encodeProcesses(&m), unix.UnixRights(fds...)
	for _, a := range r.members {
		if a != nil {
			a.conn.SetWriteDeadline(time.Now().Add(helloPatience))
			_, _, _ = a.conn.WriteMsgUnix(frame, rights, nil) // the grant that follows tells of a broken connection
		}
	}
	s.processes, _ = takeProcesses(&m, fds, r.c.Size)
}

// takeProcesses takes over the descriptors of the processes of the members in the set.
func takeProcesses(m *bitmap, fds []int, size int) ([]*Process, error) {
	if len(fds) != m.count(size) {
		return nil, errors.Join(fmt.Errorf("%d descriptors came for %d processes", len(fds), m.count(size)), closeAll(fds))
	}
	all := make([]*Process, size)
	for i := range all {
		if !m.has(i) {
			continue
		}
		p, err := newProcess(fds[0])
		if err != nil {
			closeProcesses(all)
			return nil, errors.Join(err, closeAll(fds))
		}
		all[i], fds = p, fds[1:]
	}
	return all, nil
}

func closeProcesses(all []*Process) {
	for _, p := range all {
		if p != nil {
			p.Close()
		}
	}
}
