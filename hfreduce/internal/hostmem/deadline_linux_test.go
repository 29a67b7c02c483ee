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

var errTest = errors.New("patience is at an end")

// Members 3 and 4 never come; every member that waits says so when member 0 gives up.
func TestDeadlineNamesMissingMembers(t *testing.T) {
	checkDescriptors(t)
	c := config(5)
	ctx, cancel := context.WithCancelCause(testContext(t))
	first := join(ctx, c, 0)
	one := join(testContext(t), c, 1)
	raw := approach(t, c.Name)
	say(t, raw, helloOf(c, 2).encode())
	awaitPresent(t, newReader(raw, 1), c, 0, 1, 2)
	cancel(errTest)
	const want = "members 3, 4 of the 5 of this node are missing"
	if j := <-first; !errors.Is(j.err, errTest) || !strings.Contains(j.err.Error(), want) {
		t.Errorf("member 0: %v", j.err)
	}
	if j := <-one; j.err == nil || !strings.Contains(j.err.Error(), want) {
		t.Errorf("member 1: %v", j.err)
	}
	if text := refusal(t, raw); !strings.Contains(text, want) {
		t.Errorf("member 2 was told: %s", text)
	}
	_ = raw.Close()
}

// A member's own deadline: it says what member 0 told it so far.
func TestDeadlineOfMember(t *testing.T) {
	c := config(4)
	c.Index = 1
	zero, own := socketPair(t)
	var told bitmap
	told.add(0)
	told.add(1)
	told.add(3)
	say(t, zero, encodePresent(&bitmap{1}))
	say(t, zero, encodePresent(&told))
	if err := zero.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var present bitmap
	_, _, err := awaitGrant(newReader(own, 1), &present, 2)
	if err == nil || present != told {
		t.Fatalf("told %v, understood %v, %v", told, present, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	err = answerError(ctx, &c, &present, err)
	if !errors.Is(err, errTest) || !strings.Contains(err.Error(), "members 2 of the 4") {
		t.Error(err)
	}
	if err := answerError(ctx, &c, new(bitmap), err); !errors.Is(err, errTest) || !strings.Contains(err.Error(), "waits for member 0") {
		t.Error(err)
	}
}

func TestDeadlineWithoutMemberZero(t *testing.T) {
	checkDescriptors(t)
	c := config(2)
	c.Index = 1
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := Join(ctx, c)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "member 0 of the node is missing") {
		t.Error(err)
	}
}

// A deadline that passes while a member waits ends its wait although member 0 says nothing.
func TestDeadlineEndsWait(t *testing.T) {
	checkDescriptors(t)
	c := config(3)
	zero := join(testContext(t), c, 0)
	ctx, cancel := context.WithCancelCause(testContext(t))
	one := join(ctx, c, 1)
	raw := approach(t, c.Name)
	say(t, raw, helloOf(c, 2).encode()[:headBytes]) // keeps the join open
	cancel(errTest)
	if j := <-one; !errors.Is(j.err, errTest) {
		t.Errorf("member 1: %v", j.err)
	}
	in := takePlace(t, c)
	two := join(testContext(t), c, 2)
	_, mates, err := awaitGrant(in, new(bitmap), 3)
	if err != nil {
		t.Errorf("the second member 1: %v", err)
	}
	closeProcesses(mates)
	_ = closeAll(in.fds)
	_ = in.conn.Close()
	_ = raw.Close()
	collect(t, []<-chan joined{zero, two})
}

// takePlace says hello as member 1 until the former one is forgotten, and returns with the first news of who has come.
func takePlace(t *testing.T, c Config) *reader {
	t.Helper()
	for {
		conn := approach(t, c.Name)
		say(t, conn, helloOf(c, 1).encode())
		in := newReader(conn, MaxMembers+1)
		kind, body, err := in.next(maxRefusal)
		switch {
		case err != nil:
			t.Fatal(err)
		case kind == kindPresent:
			return in
		case !strings.Contains(string(body), "two members 1"):
			t.Fatalf("answer %q: %s", kind, body)
		}
		_ = conn.Close()
	}
}

// A member that ends before all have come counts as missing, is named with its process, and may be replaced.
func TestMemberEndsBeforeAllCame(t *testing.T) {
	checkDescriptors(t)
	c := config(4) // member 3 never comes
	ctx, cancel := context.WithCancelCause(testContext(t))
	first := join(ctx, c, 0)
	two := approach(t, c.Name)
	say(t, two, helloOf(c, 2).encode())
	in := newReader(two, 1)
	for range 2 {
		one := approach(t, c.Name)
		h := helloOf(c, 1)
		h.eventFD = true
		say(t, one, h.encode(), newEventFD(t))
		awaitPresent(t, in, c, 0, 1, 2)
		_ = one.Close()
		awaitPresent(t, in, c, 0, 2)
	}
	cancel(errTest)
	j := <-first
	if !errors.Is(j.err, errTest) || !strings.Contains(j.err.Error(), "members 1, 3 of the 4") || !strings.Contains(j.err.Error(), "came and ended") {
		t.Error(j.err)
	}
	_ = two.Close()
}

// The time that a hello may take does not bound the time that a member waits.
func TestMemberWaitsLonger(t *testing.T) {
	const patience = 200 * time.Millisecond
	zero, member := socketPair(t)
	say(t, member, helloOf(config(2), 1).encode())
	if _, err := readHello(zero, os.Geteuid(), patience); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(2*patience, func() { _ = member.CloseWrite() })
	defer end.Stop()
	if _, err := zero.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("waiting for the member's end: %v", err)
	}
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return unixConn(t, fds[0]), unixConn(t, fds[1])
}

func unixConn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socketpair")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}
