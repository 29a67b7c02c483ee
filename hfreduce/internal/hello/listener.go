// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Defaults of ListenOptions.
const (
	DefaultMaxPending   = 1024
	DefaultHelloTimeout = 5 * time.Second
	DefaultHandlerWait  = 5 * time.Second
)

// grace is how long a connection may be silent whatever else comes: a crowd gets in at MaxPending for each grace.
const grace = 200 * time.Millisecond

// ListenOptions configures NewListener. Zero values mean the defaults.
type ListenOptions struct {
	Addr      string   // "host:port"; an empty host means all addresses of the machine, IPv6 and IPv4; port 0 any free port
	PortRange [2]int   // lowest and highest port to try, in order, when Addr's port is 0; zero: the system chooses
	Identity  Identity // Rank may be AnyRank until SetRank
	Logger    *slog.Logger

	MaxPending   int           // most connections that have not proved themselves; above it others are closed (pending.go)
	HelloTimeout time.Duration // for the hello up to the proof
	HandlerWait  time.Duration // how long a proved connection waits for its purpose's handler to be registered
}

// Handler takes the connections of one purpose. Both functions are called on the connection's own goroutine, so they
// may run concurrently, and must not block for long: Listener.Close waits for them.
type Handler struct {
	// Admit decides; an error refuses, and its text is sent to the dialer. nil admits everybody.
	Admit func(Hello) error
	// Serve takes the connection over, after the dialer has been told. Nothing of it was read ahead, no deadline is
	// set, and its dynamic type is *net.TCPConn, or *Secure where the identity has TLS.
	Serve func(Hello, net.Conn)
}

// Listener is the port of a process.
type Listener struct {
	opts ListenOptions
	ln   *net.TCPListener
	log  *slog.Logger
	rank atomic.Int64

	pending  *pending       // have not proved themselves
	leaving  *pending       // have been told no, and may still be reading it
	waiting  atomic.Int64   // have proved themselves and wait for their handler
	wg       sync.WaitGroup // accept loop and one per connection until it is served
	done     chan struct{}  // closed by Close
	accepted atomic.Uint64
	refused  *register

	mu         sync.Mutex
	closed     bool
	handlers   map[Purpose]Handler
	registered chan struct{} // closed and replaced by Handle
}

// NewListener listens and takes connections at once; those whose purpose has no handler yet wait for it.
func NewListener(opts ListenOptions) (*Listener, error) {
	opts.setDefaults()
	ln, err := listen(opts.Addr, opts.PortRange)
	if err != nil {
		return nil, err
	}
	l := &Listener{
		opts: opts, ln: ln, log: opts.Logger,
		done:     make(chan struct{}),
		handlers: map[Purpose]Handler{}, registered: make(chan struct{}),
		pending: newPending(opts.MaxPending, grace), leaving: newPending(max(1, opts.MaxPending/4), 0), refused: newRegister(opts.Logger),
	}
	l.rank.Store(int64(opts.Identity.Rank))
	l.wg.Go(l.accept)
	return l, nil
}

func (o *ListenOptions) setDefaults() {
	if o.MaxPending <= 0 {
		o.MaxPending = DefaultMaxPending
		var files syscall.Rlimit // of which strangers may have a quarter, and a sixteenth while they leave
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
			o.MaxPending = int(max(1, min(DefaultMaxPending, files.Cur/4)))
		}
	}
	if o.HelloTimeout <= 0 {
		o.HelloTimeout = DefaultHelloTimeout
	}
	if o.HandlerWait <= 0 {
		o.HandlerWait = DefaultHandlerWait
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// listen binds addr, or the first free port of the range.
func listen(addr string, ports [2]int) (*net.TCPListener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("hello: listen address %q: %w", addr, err)
	}
	if port != "0" && port != "" || ports == [2]int{} {
		return listenOne(addr)
	}
	if ports[0] < 1 || ports[1] > 65535 || ports[0] > ports[1] {
		return nil, fmt.Errorf("hello: port range %d-%d: want 1 <= low <= high <= 65535", ports[0], ports[1])
	}
	for p := ports[0]; p <= ports[1]; p++ {
		ln, err := listenOne(net.JoinHostPort(host, strconv.Itoa(p)))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
	}
	return nil, fmt.Errorf("hello: all ports of %d-%d are in use on this machine; every rank needs one, widen "+
		"HFREDUCE_PORT_RANGE: %w", ports[0], ports[1], syscall.EADDRINUSE)
}

func listenOne(addr string) (*net.TCPListener, error) {
	c := net.ListenConfig{KeepAlive: -1} // who takes a connection over sets that; of the others each costs four system calls
	c.SetMultipathTCP(false)
	ln, err := c.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err) // net's text names the address
	}
	return ln.(*net.TCPListener), nil
}

// Addr is the address and port that is listened on; the address is unspecified when all are.
func (l *Listener) Addr() netip.AddrPort { return l.ln.Addr().(*net.TCPAddr).AddrPort() }

// Control calls f with the listening socket's descriptor, unless the listener is closed. Connections that are accepted
// later have its options.
func (l *Listener) Control(f func(fd uintptr)) {
	if c, err := l.ln.SyscallConn(); err == nil {
		_ = c.Control(f) // fails if the listener is closed
	}
}

// SetRank sets the own rank, which dialers who want a certain rank are compared with.
func (l *Listener) SetRank(rank int) { l.rank.Store(int64(rank)) }

// Stats counts the connections that were handed to a handler, and all others.
func (l *Listener) Stats() Stats { return Stats{l.accepted.Load(), l.refused.snapshot()} }

// Handle registers who takes the connections of a purpose; a handler without Serve takes the registration back.
// Connections that came before are handed over now.
func (l *Listener) Handle(p Purpose, h Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.Serve == nil {
		delete(l.handlers, p)
		return
	}
	l.handlers[p] = h
	close(l.registered)
	l.registered = make(chan struct{})
}

// handler returns the purpose's handler, waiting for it for HandlerWait, unless too many wait already.
func (l *Listener) handler(p Purpose) (Handler, bool) {
	crowded := l.waiting.Add(1) > int64(l.opts.MaxPending)
	defer l.waiting.Add(-1)
	expired := time.NewTimer(l.opts.HandlerWait)
	defer expired.Stop()
	for {
		l.mu.Lock()
		h, ok := l.handlers[p]
		changed := l.registered
		l.mu.Unlock()
		if ok || crowded {
			return h, ok
		}
		select {
		case <-changed:
		case <-expired.C:
			return Handler{}, false
		case <-l.done:
			return Handler{}, false
		}
	}
}

// longestPause bounds how long accept waits when the system refuses.
const longestPause = 100 * time.Millisecond

// accept takes connections until Close.
func (l *Listener) accept() {
	var pause time.Duration
	for {
		conn, err := l.ln.Accept()
		switch {
		case err == nil:
			pause = 0
			if place, ok := l.pending.add(conn); ok {
				l.wg.Go(func() { l.meet(conn, place) })
			}
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, most likely: a stranger's serves a rank that waits
			if !l.refused.crowded.Swap(true) {
				l.log.Warn("hello: accept failed", slog.Any("error", err))
			}
			l.pending.relieve()
			pause = min(max(2*pause, time.Millisecond), longestPause)
			select {
			case <-time.After(pause):
			case <-l.done:
				return
			}
		}
	}
}

// closing reports whether Close has been called.
func (l *Listener) closing() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Close stops listening, closes the connections that were not handed over and waits for their goroutines. Who is just
// being refused by a handler still gets the text. Connections that were handed over stay open. Close may be called again.
func (l *Listener) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if !first {
		l.wg.Wait()
		return nil
	}
	close(l.done)
	err := l.ln.Close()
	l.pending.close()
	l.leaving.close()
	l.wg.Wait()
	return err
}
