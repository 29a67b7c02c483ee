// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	var present bitmap
	if _, _, err := conn.WriteMsgUnix(h.encode(), rights, nil); err != nil {
		return nil, answerError(ctx, c, &present, err)
	}
	in := newReader(conn, MaxMembers+1)
	g, mates, err := awaitGrant(in, &present, c.Size)
	if err != nil {
		closeProcesses(mates)
		return nil, errors.Join(answerError(ctx, c, &present, err), closeAll(in.fds))
	}
	s, err := admitted(c, &g, in.fds)
	if err != nil {
		closeProcesses(mates)
		return nil, err
	}
	s.processes = mates
	return s, nil
}

// dial connects to member 0, again and again until it listens.
func dial(ctx context.Context, c *Config) (*net.UnixConn, error) {
	var d net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		conn, err := d.DialContext(ctx, "unix", address(c.Name).Name)
		if err == nil {
			if err := checkPeer(conn.(*net.UnixConn), os.Geteuid()); err != nil {
				return nil, errors.Join(fmt.Errorf("hostmem: the segment is offered by a stranger: %w", err), conn.Close())
			}
			return conn.(*net.UnixConn), nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) { // does not pass by waiting for member 0
			return nil, fmt.Errorf("hostmem: member %d of the node got no segment: %w%s", c.Index, err, remedy(err))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("hostmem: %w while member 0 of the node is missing, which offers the segment (%w)", context.Cause(ctx), err)
		case <-time.After(pause): // nothing tells when an address begins to exist
		}
	}
}

// awaitGrant reads member 0's answers until the last one. present is who has come as far as member 0 told; mates are the
// processes of all, the caller's also after an error.
func awaitGrant(in *reader, present *bitmap, size int) (g grant, mates []*Process, err error) {
	for {
		kind, body, err := in.next(maxRefusal)
		if err != nil {
			return g, mates, err
		}
		if kind == kindProcesses && len(body) == presentBytes && mates == nil {
			m, fds := bitmap(body), in.fds
			in.fds = nil
			if mates, err = takeProcesses(&m, fds, size); err != nil {
				return g, nil, err
			}
			continue
		}
		g, now, done, err := parseAnswer(kind, body)
		if done {
			return g, mates, err
		}
		*present = now
	}
}

// answerError says why there is no grant. A refusal says more than this member's own deadline.
func answerError(ctx context.Context, c *Config, present *bitmap, err error) error {
	var refused errRefused
	switch {
	case ctx.Err() != nil && *present == bitmap{}:
		return fmt.Errorf("hostmem: %w while member %d of the node waits for member 0", context.Cause(ctx), c.Index)
	case ctx.Err() != nil && !errors.As(err, &refused):
		return fmt.Errorf("hostmem: %w", missing(context.Cause(ctx), present, c.Size))
	case errors.Is(err, io.EOF):
		err = errors.New("member 0 closed the connection")
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("hostmem: member %d of the node got no segment: %w", c.Index, err)
}

// admitted makes the segment from the grant. fds are the memfd and the members' eventfds, in their order.
func admitted(c *Config, g *grant, fds []int) (*Segment, error) {
	count := 1
	for i := range c.Size {
		if g.eventFDs.has(i) {
			count++
		}
	}
	if len(fds) != count || g.base != c.Bytes {
		return nil, errors.Join(fmt.Errorf("hostmem: member 0 gave %d descriptors and a segment of %d bytes, expected were %d and %d", len(fds), g.base, count, c.Bytes), closeAll(fds))
	}
	if err := checkMemFD(fds[0], g.base, g.arena, c.Size); err != nil {
		return nil, errors.Join(err, closeAll(fds))
	}
	s, err := newSegment(c, fds[0], g.arena)
	if err != nil {
		return nil, errors.Join(err, closeAll(fds))
	}
	s.eventFDs = make([]int, c.Size)
	next := 1
	for i := range s.eventFDs {
		if s.eventFDs[i] = -1; g.eventFDs.has(i) {
			s.eventFDs[i] = fds[next]
			next++
		}
	}
	return s, nil
}
