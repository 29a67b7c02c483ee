// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// reader reads frames and keeps the descriptors that come with them.
type reader struct {
	conn *net.UnixConn
	oob  []byte
	fds  []int // the caller's, also after an error
}

// newReader returns a reader that takes at most so many descriptors with one frame.
func newReader(conn *net.UnixConn, descriptors int) *reader {
	return &reader{conn: conn, oob: make([]byte, unix.CmsgSpace(4*descriptors))}
}

// next reads one frame, whose body may have at most limit bytes.
func (r *reader) next(limit int) (kind byte, body []byte, err error) {
	head := make([]byte, headBytes)
	if err := r.fill(head); err != nil {
		return 0, nil, err
	}
	kind, length, err := parseHead(head)
	if err != nil {
		return 0, nil, err
	}
	if length > limit {
		return 0, nil, fmt.Errorf("frame %q of %d bytes, more than %d", kind, length, limit)
	}
	body = make([]byte, length)
	return kind, body, r.fill(body)
}

func (r *reader) fill(b []byte) error {
	for len(b) > 0 {
		n, oobn, flags, _, err := r.conn.ReadMsgUnix(b, r.oob)
		fds, fdErr := descriptors(r.oob[:max(oobn, 0)])
		r.fds = append(r.fds, fds...)
		switch {
		case err != nil:
			return err
		case fdErr != nil:
			return fdErr
		case flags&unix.MSG_CTRUNC != 0:
			return errors.New("recvmsg: not all descriptors could be taken; look at the limit on open files (ulimit -n)")
		case n == 0:
			return io.EOF
		}
		b = b[n:]
	}
	return nil
}

// descriptors returns what SCM_RIGHTS messages carry. They are close-on-exec already (package net asks for it).
func descriptors(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var all []int
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all, nil
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// credentials returns the process and the user at the other end.
func credentials(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, fmt.Errorf("getsockopt(SO_PEERCRED): %w", credErr)
	}
	return cred, nil
}

// checkUser refuses processes of other users.
func checkUser(cred *unix.Ucred, uid int) error {
	if int(cred.Uid) != uid {
		return fmt.Errorf("%w: process %d runs as user %d, this one as user %d; run all ranks of a node as one user", errUser, cred.Pid, cred.Uid, uid)
	}
	return nil
}

// checkPeer refuses a connection to a process of another user.
func checkPeer(conn *net.UnixConn, uid int) error {
	cred, err := credentials(conn)
	if err != nil {
		return err
	}
	return checkUser(cred, uid)
}
