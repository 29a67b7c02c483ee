// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Config says which segment to join.
type Config struct {
	// Name is the segment's, unique on the host and not guessable: who knows it and runs as the same user may join.
	Name string
	// Index and Size: this member's number among the node's members, and how many there are.
	Index, Size int
	// Bytes is the size of the base, equal on all members.
	Bytes int64
	// ArenaBytes is the size of each member's arena. A file size limit may make it less. Member 0's value counts.
	ArenaBytes int64
	// EventFD is this member's, of which all get duplicates; -1: none. It stays the caller's.
	EventFD int
	// Prepare, if there is one, is called by member 0 when the base has no page yet and no other member maps it: for
	// Interleave and Prefer. It must neither touch nor close the segment; its error ends the join.
	Prepare func(*Segment) error
	// Stranger, if there is one, is told by member 0 of each connection that it turned away, and why. It may be called from
	// several goroutines at once, until Join returns.
	Stranger func(k Kind, why error)
}

// prepares reports whether this member calls Prepare.
func (c *Config) prepares() bool { return c.Index == 0 && c.Prepare != nil }

// maxBytes is the size that no process can map.
const maxBytes = 1 << 56

func (c *Config) check() error {
	switch {
	case c.Name == "" || len(c.Name) > maxName:
		return fmt.Errorf("hostmem: segment name of %d bytes; need 1 to %d", len(c.Name), maxName)
	case c.Size < 1 || c.Size > MaxMembers:
		return fmt.Errorf("hostmem: %d members; a node can have 1 to %d", c.Size, MaxMembers)
	case c.Index < 0 || c.Index >= c.Size:
		return fmt.Errorf("hostmem: member %d is not within 0..%d", c.Index, c.Size-1)
	case c.Bytes <= 0 || c.Bytes > maxBytes || c.ArenaBytes < 0 || c.ArenaBytes > maxBytes:
		return fmt.Errorf("hostmem: segment of %d bytes with arenas of %d bytes; the base needs 1 to %d, an arena 0 to that", c.Bytes, c.ArenaBytes, int64(maxBytes))
	}
	return nil
}

// Join makes or joins the segment c.Name. All members must call it; it returns when this member has the segment, at the
// latest when ctx ends, with an error that names the members that did not come. Strangers are turned away without delay
// for the members.
func Join(ctx context.Context, c Config) (*Segment, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Bytes = roundUp(c.Bytes, smallGrain)
	if c.Index == 0 {
		return serve(ctx, &c)
	}
	return enter(ctx, &c)
}

// serve makes the segment and hands it to the others.
func serve(ctx context.Context, c *Config) (*Segment, error) {
	arena, err := fitArena(c.Bytes, roundUp(c.ArenaBytes, largeGrain), c.Size)
	if err != nil {
		return nil, err
	}
	fd, err := newMemFD(c.Bytes + arena*int64(c.Size))
	if err != nil {
		return nil, err
	}
	s, err := newSegment(c, fd, arena)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if c.prepares() {
		if err := c.Prepare(s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		populate(s.base)
	}
	s.eventFDs = make([]int, c.Size)
	for i := range s.eventFDs {
		s.eventFDs[i] = -1
	}
	if s.eventFDs[0], err = duplicate(c.EventFD); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if c.Size > 1 {
		if err := hand(ctx, c, s, arena); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// newSegment maps the base, with its pages unless they must wait for Prepare. The segment takes over fd when there is no
// error.
func newSegment(c *Config, fd int, arena int64) (*Segment, error) {
	base, err := mapShared(fd, 0, c.Bytes, !c.prepares())
	if err != nil {
		return nil, err
	}
	return &Segment{
		index: c.Index, size: c.Size, base: base, fd: fd, wanted: roundUp(c.ArenaBytes, largeGrain),
		arenas: &fileArenas{fd: fd, index: c.Index, base: c.Bytes, arena: arena, maps: make([][]byte, c.Size)},
	}, nil
}

func duplicate(fd int) (int, error) {
	if fd < 0 {
		return -1, nil
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("hostmem: duplicate the eventfd %d: %w%s", fd, err, remedy(err))
	}
	return dup, nil
}
