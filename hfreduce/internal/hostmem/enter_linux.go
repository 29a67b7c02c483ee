// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// enter gets the segment from member 0, which may come later.
func enter(ctx context.Context, c *Config) (*Segment, error) {
	conn, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	h := hello{index: c.Index, size: c.Size, base: c.Bytes, eventFD: c.EventFD >= 0, name: c.Name}
	var rights []byte
	if h.eventFD {
		rights = unix.UnixRights(c.EventFD)
	}
	if _, _, err := conn.WriteMsgUnix(h.encode(), rights, nil); err != nil {
		return nil, answerError(ctx, c, err)
	}
	g, fds, err := readAnswer(conn)
	if err != nil {
		return nil, errors.Join(answerError(ctx, c, err), closeAll(fds))
	}
	return admitted(c, &g, fds)
}

// dial connects to member 0, again and again until it listens.
func dial(ctx context.Context, c *Config) (*net.UnixConn, error) {
	var d net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		conn, err := d.DialContext(ctx, "unix", address(c.Name).Name)
		if err == nil {
			if err := checkPeer(conn.(*net.UnixConn)); err != nil {
				return nil, errors.Join(fmt.Errorf("hostmem: the segment is offered by a stranger: %w", err), conn.Close())
			}
			return conn.(*net.UnixConn), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("hostmem: %w while member 0 of the node does not offer the segment (%w)", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// answerError says why there is no grant.
func answerError(ctx context.Context, c *Config, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("hostmem: %w while member %d waits for the segment from member 0 of the node", context.Cause(ctx), c.Index)
	}
	return fmt.Errorf("hostmem: member %d of the node got no segment: %w", c.Index, err)
}

// readAnswer reads member 0's answer to the end. The descriptors are the caller's.
func readAnswer(conn *net.UnixConn) (grant, []int, error) {
	buf, got := make([]byte, maxAnswer+1), 0
	oob := make([]byte, unix.CmsgSpace(4*(MaxMembers+1)))
	var fds []int
	for got < len(buf) {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf[got:], oob)
		more, parseErr := descriptors(oob[:oobn])
		fds = append(fds, more...)
		if err == nil {
			err = parseErr
		}
		if n <= 0 && err == nil || got+n >= grantBytes && fds != nil {
			got += max(n, 0)
			break
		}
		if err != nil {
			if got > 0 { // a refusal, then the end of the connection
				break
			}
			return grant{}, fds, err
		}
		got += n
	}
	g, err := decodeAnswer(buf[:got])
	return g, fds, err
}

// admitted makes the segment from the grant. fds are the memfd and the members' eventfds, in their order.
func admitted(c *Config, g *grant, fds []int) (*Segment, error) {
	count := 1
	for i := range c.Size {
		if g.has(i) {
			count++
		}
	}
	if len(fds) != count || g.base != c.Bytes {
		return nil, errors.Join(fmt.Errorf("hostmem: member 0 gave %d descriptors and a segment of %d bytes, expected were %d and %d; check the limit on open files (ulimit -n)", len(fds), g.base, count, c.Bytes), closeAll(fds))
	}
	s, err := newSegment(c, fds[0], g.arena)
	if err != nil {
		return nil, errors.Join(err, closeAll(fds))
	}
	s.eventFDs = make([]int, c.Size)
	next := 1
	for i := range s.eventFDs {
		if s.eventFDs[i] = -1; g.has(i) {
			s.eventFDs[i] = fds[next]
			next++
		}
	}
	return s, nil
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
