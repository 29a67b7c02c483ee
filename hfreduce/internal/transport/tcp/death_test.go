// SPDX-License-Identifier: Apache-2.0

package tcp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/transporttest"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// victimEnv holds the address of rank 1 for a process that plays rank 0.
const victimEnv = "HFREDUCE_TEST_TCP_VICTIM"

// victim links up with rank 1, posts half of a message's worth of bytes and waits to be killed.
func victim() {
	addr := netip.MustParseAddrPort(os.Getenv(victimEnv))
	l, err := hello.NewListener(hello.ListenOptions{Addr: "127.0.0.1:0", Identity: identity(0)})
	if err != nil {
		fmt.Println(err)
		return
	}
	t := New(Config{Rank: 0, Identity: identity(0), Listener: l, Peers: func(int) []netip.AddrPort { return []netip.AddrPort{addr} }})
	link, err := t.Connect(context.Background(), 1, "k", transport.LinkConfig{Bell: wait.NewChan()})
	if err != nil {
		fmt.Println(err)
		return
	}
	tl := link.(*Link)
	for tl.Limit() == 0 {
		tl.receive(make([]transport.Event, 1))
	}
	if err := link.Post(transport.Message{Payload: make([]byte, 64<<20)}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("posted")
	select {}
}

// TestProcessDeath: a peer that is killed in the middle of a message is noticed by a sleeping owner, at once.
func TestProcessDeath(t *testing.T) {
	w := newWorld(t, 2, "127.0.0.1", nil)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+w.listeners[1].Addr().String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	bell := transporttest.NewSharedBell(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	link, err := w.transports[1].Connect(ctx, 0, "k", transport.LinkConfig{Bell: bell, Window: 1, Landings: [][]byte{make([]byte, 64<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.Grant(1)
	if err := link.Flush(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "posted" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	killed := make(chan time.Time, 1)
	var ev [1]transport.Event
	for first := true; ; first = false {
		bell.Arm()
		n, err := link.Poll(ev[:])
		if err != nil {
			checkDeath(t, link, err, time.Since(<-killed))
			return
		}
		if n != 0 {
			t.Fatalf("received %+v of a message that was never complete", ev[0])
		}
		if first {
			cmd.Process.Kill()
			killed <- time.Now()
		}
		if !bell.Sleep(10 * time.Second) {
			t.Fatal("the death was not noticed")
		}
	}
}

func checkDeath(t *testing.T, link transport.Link, err error, after time.Duration) {
	t.Helper()
	var pe *transport.PeerError
	if !errors.Is(err, transport.ErrPeerLost) || errors.Is(err, transport.ErrPeerClosed) || !errors.As(err, &pe) {
		t.Fatalf("got %v", err)
	}
	if pe.Peer != 0 || pe.Transport != "tcp" || !strings.HasPrefix(pe.Addr, "127.0.0.1:") {
		t.Errorf("the error does not say who: %v", err)
	}
	if _, again := link.Poll(make([]transport.Event, 1)); again != err {
		t.Errorf("the error is not sticky: %v", again)
	}
	if after > 5*time.Second {
		t.Errorf("noticed only after %v", after)
	}
}
