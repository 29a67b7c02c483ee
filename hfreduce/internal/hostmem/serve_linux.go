// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	pid  int32
	fd   int // its eventfd, -1 if it gave none
}

// reception takes connections while members are missing. One goroutine accepts, and one for each connection reads its
// hello and, if it is a member's, waits for its end.
type reception struct {
	c  *Config
	ln *net.UnixListener
	wg sync.WaitGroup

	mu      sync.Mutex
	members []*arrived // by index, nil while missing
	missing int
	full    chan struct{} // closed when nobody is missing; from then on members stays as it is
	conns   map[*net.UnixConn]bool
	unknown []io.Closer // of them those that have not said hello, oldest first
	closed  bool
	notes   []string // why somebody is missing who was here
}

// hand waits for all members and gives them the segment.
func hand(ctx context.Context, c *Config, s *Segment, arena int64) error {
	ln, err := net.ListenUnix("unix", address(c.Name))
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("hostmem: listen for the node's members: %w (%s has it): two ranks are member 0 of one node, or two communicators have one name", err, holder(c.Name))
	}
	if err != nil {
		return fmt.Errorf("hostmem: listen for the node's members: %w%s", err, remedy(err))
	}
	r := &reception{c: c, ln: ln, members: make([]*arrived, c.Size), missing: c.Size - 1, full: make(chan struct{}), conns: map[*net.UnixConn]bool{}}
	defer r.close()
	r.wg.Go(r.accept)
	select {
	case <-r.full:
	case <-ctx.Done():
		return fmt.Errorf("hostmem: %w", r.giveUp(context.Cause(ctx)))
	}
	return r.grant(s, arena)
}

// holder tells who listens at the segment's address.
func holder(name string) string {
	conn, err := net.DialUnix("unix", nil, address(name))
	if err != nil {
		return "an unknown process"
	}
	defer conn.Close()
	cred, err := credentials(conn)
	if err != nil {
		return "an unknown process"
	}
	return fmt.Sprintf("process %d of user %d", cred.Pid, cred.Uid)
}

func (r *reception) accept() {
	for {
		conn, err := r.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for instance: a stranger's serves a member; else the deadline of the join decides
			r.relieve()
			select {
			case <-r.full:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		r.mu.Lock()
		r.conns[conn] = true
		r.enqueue(conn)
		closed := r.closed
		r.mu.Unlock()
		if closed {
			conn.Close()
			return
		}
		r.wg.Go(func() { r.greet(conn) })
	}
}

// greet reads one hello. Whoever is not a member is turned away; with a member it stays until one side ends.
func (r *reception) greet(conn *net.UnixConn) {
	a, err := readHello(conn, os.Geteuid(), helloPatience)
	r.dequeue(conn)
	if err == nil {
		if err = a.check(r.c); err == nil {
			err = r.admit(a)
		}
		if err != nil {
			err = errMember{err}
		}
	}
	if err == nil {
		var b [1]byte
		_, _ = conn.Read(b[:]) // a member has nothing more to say: it ended, or the reception did
		r.left(a)
	} else {
		r.turnAway(conn, a, err)
	}
	conn.Close()
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
}

// turnAway answers with the reason; who does not read it does not matter.
func (r *reception) turnAway(conn *net.UnixConn, a *arrived, why error) {
	if a.fd >= 0 {
		_ = unix.Close(a.fd)
	}
	conn.SetWriteDeadline(time.Now().Add(helloPatience))
	_, _ = conn.Write(encodeRefusal(why.Error()))
	r.count(a, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(fmt.Sprintf("process %d was turned away: %v", a.pid, why))
}

// grant sends the descriptors to everybody. The members' eventfds become the segment's.
func (r *reception) grant(s *Segment, arena int64) error {
	g, fds := grant{base: r.c.Bytes, arena: arena}, []int{s.fd}
	for i, a := range r.members {
		if a != nil {
			s.eventFDs[i], a.fd = a.fd, -1
		}
		if s.eventFDs[i] >= 0 {
			g.eventFDs.add(i)
			fds = append(fds, s.eventFDs[i])
		}
	}
	r.introduce(s)
	frame, rights := g.encode(), unix.UnixRights(fds...)
	for i, a := range r.members {
		if a == nil {
			continue
		}
		a.conn.SetWriteDeadline(time.Now().Add(helloPatience))
		if _, _, err := a.conn.WriteMsgUnix(frame, rights, nil); err != nil {
			err = fmt.Errorf("hand the segment to member %d (process %d) of the node: %w%s", i, a.pid, err, remedy(err))
			r.send(encodeRefusal(err.Error()))
			return fmt.Errorf("hostmem: %w", err)
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
			_ = unix.Close(a.fd)
		}
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// readHello reads a hello and the eventfd that comes with it, after a look at who is there. The eventfd is the caller's
// also when there is an error.
func readHello(conn *net.UnixConn, uid int, patience time.Duration) (*arrived, error) {
	a := &arrived{conn: conn, fd: -1}
	cred, err := credentials(conn)
	if err != nil {
		return a, err
	}
	a.pid = cred.Pid
	if err := checkUser(cred, uid); err != nil {
		return a, err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	defer conn.SetReadDeadline(time.Time{}) // a member waits as long as the join takes
	in := newReader(conn, 1)
	kind, body, err := in.next(maxHello)
	if len(in.fds) > 0 {
		a.fd = in.fds[0]
		_ = closeAll(in.fds[1:])
	}
	if err != nil {
		return a, fmt.Errorf("no hello: %w", err)
	}
	if a.hello, err = parseHello(kind, body); err != nil {
		return a, err
	}
	if a.eventFD != (len(in.fds) == 1) {
		return a, fmt.Errorf("%d descriptors came with the hello", len(in.fds))
	}
	return a, nil
}
