// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/internal/testcert"
)

// strangersVariable makes the tests of strangers take 30 s, and the crowd 10,000.
const strangersVariable = "HFREDUCE_TEST_STRANGERS"

// crowdSize is how many connections come at once: 10,000 in the long form, otherwise what the process may well have open, both
// ends being its own.
func crowdSize() int {
	if os.Getenv(strangersVariable) != "" {
		return 10_000
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 100
	}
	return int(min(1500, files.Cur/4))
}

func (c *Comm) port() string {
	return c.fabric.fabric.(*processFabric).session.Listener().Addr().String()
}

// TestStrangersAtRendezvous: all kinds of strangers come to rank 0 while it waits, and a crowd. The ranks meet without delay.
func TestStrangersAtRendezvous(t *testing.T) {
	nodeOf := blocks(4, 2)
	m, ready := newMob(), make(chan struct{})
	var at target // set when ready is closed
	var began time.Time
	come := func(addr string) {
		defer close(ready)
		until(t, "rank 0 listens", func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		at = target{addr: addr, id: hello.Identity{JobID: t.Name(), Secret: []byte("secret")}}
		at.record(t)
		m.crowd(crowdSize(), at)
		for _, o := range outsidersInClear() {
			for range 5 {
				m.send(o, at)
			}
		}
		began = time.Now()
	}
	comms := initRanks(t, nodeOf, "127.0.0.1", Options{Transport: TransportTCP}, func(rank int, mine *Options) {
		if rank == 0 {
			go come(mine.Rendezvous)
			return
		}
		<-ready
	})
	took := time.Since(began)
	t.Logf("met after %v", took)
	if took > hello.DefaultHelloTimeout {
		t.Errorf("the ranks took %v to meet", took)
	}
	checkBits(t, comms, nodeOf)
	m.check(t, comms[:1], []target{at})
}

// until waits for a condition, with a deadline.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within 10 s: %s", what)
			return
		}
	}
}

// TestStrangersAtRunningJob: all kinds of strangers come to all ports of a job that adds, in windows between such without
// strangers. Every result is right, every stranger is closed in time and counted. They come at a fixed rate; in the windows
// between they go to a port that just closes them, so that the difference is what they cost the job and not what they cost
// themselves. A crowd comes once.
func TestStrangersAtRunningJob(t *testing.T) {
	const each = 5 * time.Millisecond // 200 strangers a second
	const length = 300 * time.Millisecond
	windows := 8
	if os.Getenv(strangersVariable) != "" {
		windows = 100
	}
	comms := initRanks(t, blocks(4, 2), "127.0.0.1", Options{Transport: TransportTCP}, func(int, *Options) {})
	targets := make([]target, len(comms))
	for r, c := range comms {
		targets[r] = target{addr: c.port(), id: hello.Identity{JobID: t.Name(), Secret: []byte("secret")}, rank: r}
		targets[r].record(t)
	}
	m, elsewhere := newMob(), newMob()
	decoy := listenAndClose(t)
	kinds := outsidersInClear()
	m.crowd(crowdSize(), targets[0])
	addFor(t, comms, length) // warms up, and has the crowd
	var rate [2]float64
	var ratios []float64
	for w := range windows {
		flood := w % 2
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			tick := time.NewTicker(each)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				at, m := targets[i%len(targets)], m
				if flood == 0 {
					at.addr, m = decoy, elsewhere
				}
				m.send(kinds[i/len(targets)%len(kinds)], at)
				if at.rank > 0 && i%10 == 0 {
					m.send(traitor, at)
				}
			}
		}()
		n, d := addFor(t, comms, length)
		close(stop)
		<-stopped
		if rate[flood] = float64(n) / d.Seconds(); flood == 1 {
			ratios = append(ratios, rate[1]/rate[0])
		}
	}
	slices.Sort(ratios)
	ratio := ratios[len(ratios)/2]
	t.Logf("the job keeps %.1f %% of its bandwidth, median of %d pairs of windows (quartiles %.1f %% and %.1f %%)", 100*ratio, len(ratios),
		100*ratios[len(ratios)/4], 100*ratios[len(ratios)*3/4])
	if ratio < 0.2 {
		t.Errorf("strangers leave %.0f %% of the bandwidth", 100*ratio)
	}
	m.check(t, comms, targets)
	elsewhere.wg.Wait()
}

// TestStrangersAtTLSJob: the same for a job with TLS, once.
func TestStrangersAtTLSJob(t *testing.T) {
	a, other := testcert.NewAuthority(t), testcert.NewAuthority(t)
	files := filesOf(a)
	comms := initRanks(t, blocks(4, 2), "127.0.0.1", Options{TLS: files}, func(int, *Options) {})
	secure := hello.NewTLS(a.Issue(nil), a.Roots())
	m, targets := newMob(), make([]target, len(comms))
	for r, c := range comms {
		targets[r] = target{addr: c.port(), id: hello.Identity{JobID: t.Name(), Secret: []byte("secret"), TLS: secure}, rank: r}
		targets[r].record(t)
		for _, o := range outsidersAtTLS(hello.NewTLS(other.Issue(nil), a.Roots())) {
			for range 3 {
				m.send(o, targets[r])
			}
		}
		if r > 0 {
			m.send(traitor, targets[r])
		}
	}
	addFor(t, comms, 500*time.Millisecond)
	m.check(t, comms, targets)
}

// listenAndClose returns the address of a port that closes what comes.
func listenAndClose(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// addFor lets all ranks add 1 MiB again and again for so long; it returns how often they did, and in what time.
func addFor(t *testing.T, comms []*Comm, length time.Duration) (n int, took time.Duration) {
	t.Helper()
	const count, batch = 1 << 18, 10
	want := float32(len(comms) * (len(comms) + 1) / 2)
	for began := time.Now(); took < length; took = time.Since(began) {
		each(t, comms, func(c *Comm) error {
			in, out := make([]float32, count), make([]float32, count)
			for i := range in {
				in[i] = float32(c.Rank() + 1)
			}
			for range batch {
				if err := c.AllReduce(context.Background(), Host(out), Host(in), Sum); err != nil {
					return err
				}
				for i, v := range out {
					if v != want {
						return fmt.Errorf("element %d is %v, want %v", i, v, want)
					}
				}
				clear(out)
			}
			return nil
		})
		n += batch
	}
	return n, took
}
