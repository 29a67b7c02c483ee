// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// approach connects to a segment's address as soon as it exists.
func approach(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := dial(testContext(t), &Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends bytes and descriptors.
func say(t *testing.T, conn *net.UnixConn, b []byte, fds ...int) {
	t.Helper()
	if _, _, err := conn.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
}

// helloOf is what member index of c sends.
func helloOf(c Config, index int) *hello {
	return &hello{index: index, size: c.Size, base: c.Bytes, name: c.Name}
}

// awaitPresent reads until member 0 tells that so many members have come.
func awaitPresent(t *testing.T, in *reader, c Config, want ...int) {
	t.Helper()
	var wanted bitmap
	for _, i := range want {
		wanted.add(i)
	}
	for {
		kind, body, err := in.next(maxRefusal)
		if err != nil {
			t.Fatalf("waiting for members %v: %v", want, err)
		}
		_, now, done, err := parseAnswer(kind, body)
		if done {
			t.Fatalf("waiting for members %v: answer %q, %v", want, kind, err)
		}
		if now == wanted {
			return
		}
	}
}

// refusal reads member 0's answer, which must be the end.
func refusal(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	in := newReader(conn, MaxMembers+1)
	defer func() {
		if len(in.fds) > 0 {
			t.Errorf("a stranger got %d descriptors", len(in.fds))
			_ = closeAll(in.fds)
		}
	}()
	kind, body, err := in.next(maxRefusal)
	if err != nil {
		return err.Error()
	}
	_, _, done, err := parseAnswer(kind, body)
	if !done || err == nil {
		t.Errorf("a stranger got the answer %q", kind)
		return ""
	}
	if _, _, err := in.next(maxRefusal); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after the refusal: %v", err)
	}
	return err.Error()
}

type stranger struct {
	name string
	act  func(t *testing.T, conn *net.UnixConn, c Config)
	want string // in the refusal; empty: it is left waiting for the rest of its hello
	kind Kind   // that it is counted as
}

func lying(change func(h *hello)) func(t *testing.T, conn *net.UnixConn, c Config) {
	return func(t *testing.T, conn *net.UnixConn, c Config) {
		h := helloOf(c, 1)
		change(h)
		say(t, conn, h.encode())
	}
}

func saying(text string) func(t *testing.T, conn *net.UnixConn, c Config) {
	return func(t *testing.T, conn *net.UnixConn, _ Config) { say(t, conn, []byte(text)) }
}

func strangers() []stranger {
	return []stranger{
		{"silent", func(*testing.T, *net.UnixConn, Config) {}, "", KindSilent},
		{"half a head", saying("HFR"), "", KindSilent},
		{"half a hello", func(t *testing.T, conn *net.UnixConn, c Config) {
			b := helloOf(c, 1).encode()
			say(t, conn, b[:len(b)-1])
		}, "", KindSilent},
		{"hangs up", func(_ *testing.T, conn *net.UnixConn, _ Config) { _ = conn.CloseWrite() }, "EOF", KindSilent},
		{"garbage", saying("\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff"), "not a frame", KindBytes},
		{"http", saying("GET / HTTP/1.1\r\n\r\n"), "not a frame", KindBytes},
		{"long frame", saying("HFRM\x03\xff\xff" + strings.Repeat("x", 100)), "65535 bytes", KindBytes},
		{"short hello", saying("HFRM\x03\x01\x00x"), "instead of a hello", KindBytes},
		{"a grant", func(t *testing.T, conn *net.UnixConn, _ Config) { say(t, conn, (&grant{}).encode()) }, "instead of a hello", KindBytes},
		{"another version", saying("HFRM\x09\x01\x00x"), "version 9", KindBytes},
		{"wrong name", lying(func(h *hello) { h.name = "other" }), "another segment's name", KindMember},
		{"wrong size", lying(func(h *hello) { h.size++ }), "member 1 of 3", KindMember},
		{"index of member 0", lying(func(h *hello) { h.index = 0 }), "member 0 of 2", KindMember},
		{"index too large", lying(func(h *hello) { h.index = 2 }), "member 2 of 2", KindMember},
		{"index huge", lying(func(h *hello) { h.index = -1 }), "expected are members 1 to 1", KindMember},
		{"wrong base", lying(func(h *hello) { h.base++ }), "options differ", KindMember},
		{"promised eventfd", lying(func(h *hello) { h.eventFD = true }), "0 descriptors came", KindBytes},
		{"unasked descriptor", func(t *testing.T, conn *net.UnixConn, c Config) {
			say(t, conn, helloOf(c, 1).encode(), newEventFD(t))
		}, "1 descriptors came", KindBytes},
		{"two descriptors", func(t *testing.T, conn *net.UnixConn, c Config) {
			h := helloOf(c, 1)
			h.eventFD = true
			fd := newEventFD(t)
			say(t, conn, h.encode(), fd, fd)
		}, "2 descriptors came", KindBytes},
		{"many descriptors", func(t *testing.T, conn *net.UnixConn, c Config) {
			h := helloOf(c, 1)
			h.eventFD = true
			fd := newEventFD(t)
			say(t, conn, h.encode(), fd, fd, fd, fd, fd, fd, fd, fd)
		}, "not all descriptors", KindBytes},
	}
}

// No stranger breaks or delays the join: it completes while those that wait for nothing are still connected.
func TestStrangers(t *testing.T) {
	for _, s := range strangers() {
		t.Run(s.name, func(t *testing.T) {
			checkDescriptors(t)
			c := config(2)
			told := make(chan Kind, 1)
			c.Stranger = func(k Kind, _ error) { told <- k }
			first := join(testContext(t), c, 0)
			conn := approach(t, c.Name)
			s.act(t, conn, c)
			if s.want != "" {
				if got := refusal(t, conn); !strings.Contains(got, s.want) {
					t.Errorf("answer %q does not say %q", got, s.want)
				}
			}
			begin := time.Now()
			segments := collect(t, []<-chan joined{first, join(testContext(t), c, 1)})
			if d := time.Since(begin); d >= helloPatience {
				t.Errorf("the members joined after %v", d)
			}
			word(segments[0].Base(), 0).Store(5)
			if v := word(segments[1].Base(), 0).Load(); v != 5 {
				t.Errorf("member 1 sees %d", v)
			}
			_ = conn.Close()
			if k := <-told; k != s.kind {
				t.Errorf("counted as %s, want %s", k, s.kind)
			}
		})
	}
}

func TestStrangersMany(t *testing.T) {
	checkDescriptors(t)
	c := config(2)
	first := join(testContext(t), c, 0)
	for range 20 {
		for _, s := range strangers() {
			conn := approach(t, c.Name)
			s.act(t, conn, c)
			defer func() { _ = conn.Close() }()
		}
	}
	collect(t, []<-chan joined{first, join(testContext(t), c, 1)})
}

// Silent connections beyond what is allowed end those that came first, at once, and the members still get in.
func TestStrangersSilentCrowd(t *testing.T) {
	c := config(2)
	told := make(chan Kind, 4*maxUnknown)
	c.Stranger = func(k Kind, _ error) { told <- k }
	first := join(testContext(t), c, 0)
	begin := time.Now()
	const extra = 20
	for range maxUnknown + extra {
		approach(t, c.Name)
	}
	for range extra {
		if k := <-told; k != KindSilent {
			t.Errorf("counted as %s", k)
		}
	}
	collect(t, []<-chan joined{first, join(testContext(t), c, 1)})
	if d := time.Since(begin); d >= helloPatience {
		t.Errorf("it took %v", d)
	}
}

func TestStrangerDuplicateIndex(t *testing.T) {
	checkDescriptors(t)
	c := config(3)
	first := join(testContext(t), c, 0)
	one := approach(t, c.Name)
	say(t, one, helloOf(c, 1).encode())
	in := newReader(one, MaxMembers+1)
	awaitPresent(t, in, c, 0, 1)
	duplicate := c
	duplicate.Index = 1
	if _, err := Join(testContext(t), duplicate); err == nil || !strings.Contains(err.Error(), "two members 1") {
		t.Errorf("second member 1: %v", err)
	}
	last := join(testContext(t), c, 2)
	var present bitmap
	g, mates, err := awaitGrant(in, &present, 3)
	if err != nil || g.base != c.Bytes || len(in.fds) != 1 {
		t.Errorf("first member 1: %+v with %d descriptors, %v", g, len(in.fds), err)
	}
	closeProcesses(mates)
	_ = closeAll(in.fds)
	_ = one.Close()
	collect(t, []<-chan joined{first, last})
}

// A process of another user is refused, on both sides, whatever it says.
func TestStrangerOfAnotherUser(t *testing.T) {
	checkDescriptors(t)
	c := config(2)
	ctx, cancel := context.WithCancel(testContext(t))
	first := join(ctx, c, 0)
	conn := approach(t, c.Name)
	if err := checkPeer(conn, os.Geteuid()); err != nil {
		t.Error(err)
	}
	err := checkPeer(conn, os.Geteuid()+1)
	if err == nil || !strings.Contains(err.Error(), "run all ranks of a node as one user") {
		t.Errorf("member of another user: %v", err)
	}
	if a, err := readHello(conn, os.Geteuid()+1, patience); err == nil || a.pid != int32(os.Getpid()) {
		t.Errorf("hello of another user's process: %+v, %v", a, err)
	}
	cancel()
	_ = conn.Close()
	if j := <-first; j.err == nil {
		t.Error("joined without the other member")
	}
}

// Something else listens at the address: the member must not hang and must not take what it is given for a segment.
func TestFalseMemberZero(t *testing.T) {
	memfd := func(t *testing.T, size int64) int {
		t.Helper()
		fd, err := unix.MemfdCreate("hfreduce-false", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Ftruncate(fd, size); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	c := config(2)
	c.Index = 1
	good := grant{base: c.Bytes, arena: 0}
	for name, f := range map[string]struct {
		answer func(t *testing.T, conn *net.UnixConn)
		want   string
	}{
		"hangs up":      {func(*testing.T, *net.UnixConn) {}, "closed the connection"},
		"garbage":       {func(t *testing.T, conn *net.UnixConn) { say(t, conn, []byte("what do you want?")) }, "not a frame"},
		"strange frame": {func(t *testing.T, conn *net.UnixConn) { say(t, conn, frame('?', nil)) }, "instead of an answer"},
		"no descriptor": {func(t *testing.T, conn *net.UnixConn) { say(t, conn, good.encode()) }, "0 descriptors"},
		"not a memfd":   {func(t *testing.T, conn *net.UnixConn) { say(t, conn, good.encode(), newEventFD(t)) }, "no memfd"},
		"not sealed":    {func(t *testing.T, conn *net.UnixConn) { say(t, conn, good.encode(), memfd(t, c.Bytes)) }, "seals"},
		"too small":     {func(t *testing.T, conn *net.UnixConn) { say(t, conn, good.encode(), memfd(t, c.Bytes-1)) }, "expected were"},
		"other base": {func(t *testing.T, conn *net.UnixConn) {
			say(t, conn, (&grant{base: 1}).encode(), memfd(t, 1))
		}, "segment of 1 bytes"},
		"other eventfds": {func(t *testing.T, conn *net.UnixConn) {
			say(t, conn, (&grant{base: c.Bytes, eventFDs: bitmap{3}}).encode(), memfd(t, c.Bytes))
		}, "1 descriptors"},
		"negative arena": {func(t *testing.T, conn *net.UnixConn) {
			say(t, conn, (&grant{base: c.Bytes, arena: -1}).encode(), memfd(t, c.Bytes))
		}, "expected were"},
	} {
		t.Run(name, func(t *testing.T) {
			checkDescriptors(t)
			ln, err := net.ListenUnix("unix", address(c.Name))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			member := join(testContext(t), c, 1)
			conn, err := ln.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readHello(conn, os.Geteuid(), patience); err != nil {
				t.Error(err)
			}
			f.answer(t, conn)
			_ = conn.Close()
			if j := <-member; j.err == nil || !strings.Contains(j.err.Error(), f.want) {
				t.Errorf("%v does not say %q", j.err, f.want)
			}
		})
	}
}
