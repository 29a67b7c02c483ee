// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// Session is one rank's end of the control channel. Its methods may be called from any goroutine.
type Session struct {
	rank     int
	cfg      Config
	peers    []PeerInfo
	log      *slog.Logger
	listener *hello.Listener
	events   *events
	life     context.Context // ends with Close
	end      context.CancelFunc

	wg         sync.WaitGroup // reader, writer, heartbeat
	ended      chan struct{}  // closed when the reader has ended
	dispatched chan struct{}  // closed when the event goroutine has ended

	mu       sync.Mutex
	hub      *hub  // at the rank that is the hub: rank 0, or who took its place
	hubRank  int   // who that is
	wire     *wire // to the hub; nil while another rank takes its place
	lost     map[int]bool
	saw      sighting            // that the hub has ended, until there is another one
	later    [][]byte            // exchanges and ends of processes from when there was no hub
	told     [][]byte            // the latest aborts: who takes the hub's place may have to tell them
	reports  map[string][]byte   // by scope, until there is a verdict; also others' that the hub has asked about
	judged   map[string]bool     // scopes of which there is one
	calls    map[string]*calling // roll calls in flight, by key
	answers  func(scope, report string) string
	waiters  map[string]chan result // exchanges in flight, by key
	used     map[string]bool        // keys
	broken   *failure               // why there is no channel any more
	closing  bool
	closed   chan struct{} // closed when Close is done
	closeErr error
}

// result of an exchange.
type result struct {
	parts   [][]byte
	failure *failure
}

func newSession(j *joining, peers []PeerInfo) *Session {
	s := &Session{
		rank: j.cfg.Rank, cfg: j.cfg, peers: dialable(peers, j.cfg.Rank), log: j.cfg.Logger, listener: j.listener, hub: j.hub, wire: j.wire,
		events: newEvents(), ended: make(chan struct{}), dispatched: make(chan struct{}),
		lost: map[int]bool{}, reports: map[string][]byte{}, judged: map[string]bool{}, calls: map[string]*calling{},
		waiters: map[string]chan result{}, used: map[string]bool{}, closed: make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	if s.hub == nil {
		s.listener.Handle(hello.Control, s.notHub())
	}
	s.wg.Go(j.wire.run)
	s.wg.Go(func() { s.read(j.wire) })
	s.wg.Go(func() { heartbeat(j.cfg.Heartbeat, s.ended, s.wires) })
	go func() {
		defer close(s.dispatched)
		s.events.run()
	}()
	return s
}

// Identity is what this rank proves itself with on every connection of the job.
func (s *Session) Identity() hello.Identity { return s.cfg.identity() }

// Listener is this rank's port. On rank 0 it is the rendezvous port.
func (s *Session) Listener() *hello.Listener { return s.listener }

// Peers lists all ranks, this one included, in rank order.
func (s *Session) Peers() []PeerInfo { return slices.Clone(s.peers) }

// Abort tells all other ranks that something (scope, at most 256 bytes) is over, and why (text, at most 16 KiB; longer
// ones are cut). It does not block. The own subscribers are not called.
func (s *Session) Abort(scope, text string) {
	frame := abortFrame(kindAbort, s.rank, scope, text)
	s.mu.Lock()
	s.told = append(s.told[max(0, len(s.told)+1-maxTold):], frame)
	s.mu.Unlock()
	s.send(frame)
}

// maxTold bounds how many aborts are repeated to a new hub.
const maxTold = 16

// send queues a message for the hub. It is lost if there is none just now.
func (s *Session) send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire != nil {
		s.wire.send(frame)
	}
}

// Notify tells all other ranks something that is no end of anything, with Abort's bounds. It does not block, and nobody
// keeps it: only those who subscribe when it comes hear it, and of many at once only the latest.
func (s *Session) Notify(scope, text string) {
	s.send(abortFrame(kindNotice, s.rank, scope, text))
}

// ReportGone tells all ranks that the process of another rank has ended, which this rank knows otherwise than by a connection:
// text says how. The rank is lost then, unless it had closed before. It does not block.
func (s *Session) ReportGone(rank int, text string) {
	frame := abortFrame(kindGone, rank, "", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.wire == nil && rank != s.hubRank:
		s.later = append(s.later, frame)
	case s.wire == nil: // it is known already
	case rank == s.hubRank:
		s.saw = sighting{rank, text}
		s.wire.expire(errors.New(text)) // the reader tells
	default:
		s.wire.send(frame)
	}
}

// Subscribe has call called for every event, also for those before, in order and one at a time, on a goroutine of the
// Session; call must not block for long and must not call Close. After cancel no further call is begun, but one may
// still be running.
func (s *Session) Subscribe(call func(Event)) (cancel func()) { return s.events.subscribe(call) }

// Exchange gives every member the parts of all members, in the order of members, which must be the same list of
// distinct world ranks on all of them, this rank included. key (1 to 256 bytes) names the exchange and can be used once
// by each rank. A part has at most 1 MiB, all together at most 256 MiB. It returns early if ctx ends, if a member is
// lost (ErrPeerLost) or has closed (ErrClosed), or if the members' lists differ (ErrMismatch). The error at the end of ctx names
// the members that are missing, if the hub says so within half a second.
func (s *Session) Exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error) {
	wait, err := s.begin(key, members, mine)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: exchange %q on rank %d: %w", key, s.rank, err)
	}
	defer s.forget(key)
	var r result
	select {
	case r = <-wait:
	case <-ctx.Done():
		s.send(keyFrame(kindOverdue, key))
		select {
		case r = <-wait:
		case <-time.After(lastWords):
			r.failure = failuref(codeTimeout, "who is missing is not known")
		}
		if r.failure != nil {
			return nil, fmt.Errorf("bootstrap: exchange %q of %s on rank %d: %s: %w", key, FormatRanks(members), s.rank, r.failure.text, context.Cause(ctx))
		}
	}
	if r.failure != nil {
		return nil, fmt.Errorf("bootstrap: exchange %q on rank %d: %w", key, s.rank, r.failure)
	}
	if len(r.parts) != len(members) {
		return nil, fmt.Errorf("bootstrap: exchange %q on rank %d: %w: %d parts for %d members", key, s.rank, errFrame, len(r.parts), len(members))
	}
	return r.parts, nil
}

// begin checks the arguments, registers the waiter and sends this rank's part.
func (s *Session) begin(key string, members []int, mine []byte) (chan result, error) {
	switch {
	case key == "" || len(key) > maxKey:
		return nil, fmt.Errorf("the key has %d bytes, 1 to %d are allowed", len(key), maxKey)
	case len(mine) > maxBlob:
		return nil, fmt.Errorf("the part has %d bytes, at most %d are allowed", len(mine), maxBlob)
	}
	if err := checkMembers(s.rank, len(s.peers), members); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return nil, ErrClosed
	case s.broken != nil:
		return nil, s.broken
	case s.used[key]:
		return nil, fmt.Errorf("%w: the key was used before", ErrMismatch)
	}
	s.used[key] = true
	wait := make(chan result, 1)
	s.waiters[key] = wait
	frame := exchangeFrame(key, members, mine)
	if s.wire != nil {
		s.wire.send(frame)
	} else {
		s.later = append(s.later, frame)
	}
	return wait, nil
}

func (s *Session) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiters, key)
}

// wires returns this rank's control connection, if it has one just now.
func (s *Session) wires(ws []*wire) []*wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil {
		return ws
	}
	return append(ws, s.wire)
}

// read takes what the hub sends, and then what those send who take its place, until there is nobody any more.
func (s *Session) read(w *wire) {
	defer close(s.ended)
	for w != nil {
		k, body, err := readFrame(w.in, maxDownFrame)
		if err == nil {
			err = s.take(k, body)
		}
		if err != nil {
			w = s.succeed(w, w.cause(err))
		}
	}
}

var errGoodbye = errors.New("it closed before this rank did")

// take handles one message; an error ends the connection.
func (s *Session) take(k kind, body []byte) error {
	switch k {
	case kindResult:
		key, f, parts, err := parseResult(body)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if wait, ok := s.waiters[key]; ok { // else its caller has gone
			delete(s.waiters, key)
			wait <- result{parts, f}
		}
		return nil
	case kindAbort, kindNotice, kindLost, kindVerdict:
		rank, scope, text, err := parseAbort(body)
		if err != nil {
			return err
		}
		if rank >= len(s.peers) {
			return fmt.Errorf("%w: rank %d", errFrame, rank)
		}
		s.hear(k, rank, scope, text)
		return nil
	case kindInquiry:
		return s.asked(body)
	case kindRoll:
		return s.called(body)
	case kindWaiting: // was on its way when the last rank came
		return nil
	case kindGoodbye:
		return errGoodbye
	}
	return fmt.Errorf("%w: unknown kind %d", errFrame, k)
}

func (s *Session) event(k EventKind, rank int, text string) Event {
	p := s.peers[rank]
	return Event{Kind: k, Rank: rank, Host: p.Host, PID: p.PID, Text: text}
}

// hear publishes what happened on another rank.
func (s *Session) hear(k kind, rank int, scope, text string) {
	e := s.event(Abort, rank, text)
	e.Scope = scope
	switch k {
	case kindNotice:
		e.Kind = Notice
	case kindLost:
		e.Kind = PeerLost
		s.mu.Lock()
		s.lost[rank] = true
		s.mu.Unlock()
	case kindVerdict:
		e.Kind = Verdict
		s.mu.Lock()
		delete(s.reports, scope)
		s.judged[scope] = true
		s.mu.Unlock()
	}
	s.events.publish(e)
}

// Close says goodbye, so that this rank's end is not taken for a loss, and releases everything, the Listener included.
// Rank 0 first waits for the goodbyes of all others, because their channel ends with it. When ctx ends before, the
// rest is cut off and the error says so. Further calls wait for the first and return its error.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.mu.Unlock()
	if !first {
		<-s.closed
		return s.closeErr
	}
	defer close(s.closed)
	s.send(newFrame(kindGoodbye, nil))
	var err error
	select {
	case <-s.ended:
	case <-ctx.Done():
		err = fmt.Errorf("bootstrap: rank %d closed before its goodbye was taken: %w", s.rank, context.Cause(ctx))
	}
	s.end()
	s.mu.Lock()
	w, h := s.wire, s.hub
	s.mu.Unlock()
	if h != nil {
		err = errors.Join(err, closeHub(ctx, h))
	}
	if w != nil {
		w.kill()
	}
	err = errors.Join(err, s.listener.Close())
	s.events.close()
	s.wg.Wait()
	select {
	case <-s.dispatched:
	case <-ctx.Done(): // a subscriber blocks; it ends when that returns
	}
	s.closeErr = err
	return err
}

// closeHub waits for the goodbyes of all other ranks, and takes the hub down.
func closeHub(ctx context.Context, h *hub) (err error) {
	select {
	case <-h.empty:
	case <-ctx.Done():
		if late := h.remaining(); len(late) > 0 {
			err = fmt.Errorf("bootstrap: rank %d closed before the goodbye of %s: %w", h.cfg.Rank, FormatRanks(late), context.Cause(ctx))
		}
		h.leave()
		select {
		case <-h.empty:
		case <-time.After(lastWords):
		}
	}
	h.close()
	return err
}
