// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// helloPatience bounds how long a connection may take to say hello.
const helloPatience = 5 * time.Second

// address returns the abstract socket's.
func address(name string) *net.UnixAddr { return &net.UnixAddr{Name: "@hfreduce-" + name, Net: "unix"} }

// arrived is a member that said hello.
type arrived struct {
	hello
	conn *net.UnixConn
	fd   int // its eventfd, -1 if it gave none
}

// reception takes connections while members are missing.
type reception struct {
	c  *Config
	ln *net.UnixListener

	mu      sync.Mutex
	members []*arrived // by index, nil while missing
	missing int
	full    chan struct{} // closed when nobody is missing
	conns   map[*net.UnixConn]bool
	closed  bool
	wg      sync.WaitGroup
}

// hand waits for all members and gives them the segment.
func hand(ctx context.Context, c *Config, s *Segment, arena int64) error {
	ln, err := net.ListenUnix("unix", address(c.Name))
	if err != nil {
		return fmt.Errorf("hostmem: listen for the node's members: %w", err)
	}
	r := &reception{c: c, ln: ln, members: make([]*arrived, c.Size), missing: c.Size - 1, full: make(chan struct{}), conns: map[*net.UnixConn]bool{}}
	defer r.close()
	r.wg.Go(r.accept)
	select {
	case <-r.full:
	case <-ctx.Done():
		return fmt.Errorf("hostmem: %w while members %s of %d of the node are missing", context.Cause(ctx), r.absent(), c.Size)
	}
	return r.grant(s, arena)
}

func (r *reception) accept() {
	for {
		conn, err := r.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for instance: the deadline of the join decides
			select {
			case <-r.full:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		r.mu.Lock()
		r.conns[conn] = true
		closed := r.closed
		r.mu.Unlock()
		if closed {
			conn.Close()
			return
		}
		r.wg.Go(func() { r.greet(conn) })
	}
}

// greet reads one hello. Whoever is not a member is turned away.
func (r *reception) greet(conn *net.UnixConn) {
	a, err := readHello(conn)
	if err == nil {
		err = a.check(r.c)
	}
	if err == nil {
		err = r.admit(a)
	}
	if err == nil {
		return
	}
	if a != nil && a.fd >= 0 {
		unix.Close(a.fd)
	}
	conn.SetWriteDeadline(time.Now().Add(helloPatience))
	conn.Write(encodeRefusal(err.Error())) // who does not read it does not matter
	conn.Close()
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
}

// admit notes a member, once.
func (r *reception) admit(a *arrived) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("too late")
	}
	if r.members[a.index] != nil {
		return fmt.Errorf("there are two members %d", a.index)
	}
	r.members[a.index] = a
	if r.missing--; r.missing == 0 {
		close(r.full)
	}
	return nil
}

// absent lists who is missing.
func (r *reception) absent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for i, a := range r.members {
		if i > 0 && a == nil {
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ", ")
}

// grant sends the descriptors to everybody. The members' eventfds become the segment's.
func (r *reception) grant(s *Segment, arena int64) error {
	g, fds := grant{base: r.c.Bytes, arena: arena}, []int{s.fd}
	for i, a := range r.members {
		if a != nil {
			s.eventFDs[i], a.fd = a.fd, -1
		}
		if s.eventFDs[i] >= 0 {
			g.eventFDs[i/8] |= 1 << (i % 8)
			fds = append(fds, s.eventFDs[i])
		}
	}
	rights := unix.UnixRights(fds...)
	for i, a := range r.members {
		if a == nil {
			continue
		}
		a.conn.SetWriteDeadline(time.Now().Add(helloPatience))
		if _, _, err := a.conn.WriteMsgUnix(g.encode(), rights, nil); err != nil {
			return fmt.Errorf("hostmem: hand the segment to member %d of the node: %w", i, err)
		}
	}
	return nil
}

// close ends the reception: the socket's name is free again and no goroutine is left.
func (r *reception) close() {
	r.ln.Close()
	r.mu.Lock()
	r.closed = true
	for conn := range r.conns {
		conn.Close()
	}
	for _, a := range r.members {
		if a != nil && a.fd >= 0 {
			unix.Close(a.fd)
		}
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// readHello reads a hello and the eventfd that comes with it, after a look at who is there. The eventfd is the caller's
// also when there is an error.
func readHello(conn *net.UnixConn) (*arrived, error) {
	a := &arrived{conn: conn, fd: -1}
	if err := checkPeer(conn); err != nil {
		return a, err
	}
	conn.SetReadDeadline(time.Now().Add(helloPatience))
	buf, oob, got := make([]byte, maxHello), make([]byte, unix.CmsgSpace(4)), 0
	for want := helloHead; got < want; {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf[got:want], oob)
		if err == nil && n == 0 {
			err = errors.New("closed before the hello was complete")
		}
		if err != nil {
			return a, err
		}
		if err := a.take(oob[:oobn]); err != nil {
			return a, err
		}
		if got += n; got == helloHead && want == helloHead {
			if want, err = helloLength(buf[:got]); err != nil || want > maxHello {
				return a, errors.Join(errors.New("bad hello"), err)
			}
		}
	}
	a.hello = decodeHello(buf[:got])
	if a.eventFD != (a.fd >= 0) {
		return a, errors.New("the eventfd did not come with the hello")
	}
	return a, nil
}

// take keeps the first descriptor of a control message and closes the others.
func (a *arrived) take(oob []byte) error {
	fds, err := descriptors(oob)
	for _, fd := range fds {
		if a.fd < 0 {
			a.fd = fd
			continue
		}
		unix.Close(fd)
	}
	return err
}

// descriptors returns what SCM_RIGHTS messages carry.
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
	for _, fd := range all {
		unix.CloseOnExec(fd)
	}
	return all, nil
}

// checkPeer refuses processes of other users.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("process %d runs as user %d, this is user %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}
