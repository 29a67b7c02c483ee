// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// When the hub is lost, the lowest rank that is not takes its place on its own port, and the others come over to it: those
// who are left can still be told one verdict, make communicators and find out who goes on. What was under way in the star
// ends or is repeated: exchanges fail, reports and roll calls go to the new hub.

var (
	errCutOff = errors.New("this rank is cut off from the others")
	errNotHub = errors.New("this rank is not the control channel's hub, and has not lost it")
	errNoHost = errors.New("its host did not answer")
)

// succeed finds the hub that follows one whose connection has ended, and returns the way to it; nil if this rank is closing
// or there is none.
func (s *Session) succeed(w *wire, cause error) *wire {
	w.kill()
	text := describe(cause)
	s.mu.Lock()
	s.wire = nil
	closing, gone, old := s.closing, s.hubRank, s.hub
	known := s.lost[gone]
	s.lost[gone] = true
	s.failWaiters(failuref(codeLost, "%v is lost, and what was under way in the control channel: %s", s.peers[gone], text))
	s.mu.Unlock()
	if closing && errors.Is(cause, errGoodbye) || old != nil {
		s.breakOff(failuref(codeClosed, "the session is closed"))
		return nil
	}
	s.log.Warn("bootstrap: the control channel's hub is lost", "rank", s.rank, "hub", s.peers[gone].String(), "cause", text)
	if !known {
		s.events.publish(s.event(PeerLost, gone, text))
	}
	for s.life.Err() == nil {
		next := s.successor()
		conn, err := s.comeOver(next)
		if err == nil {
			return s.install(next, conn)
		}
		if s.life.Err() != nil {
			break
		}
		if errors.Is(err, errCutOff) {
			s.breakOff(failuref(codeLost, "%v is lost, and with it the control channel: %v", s.peers[gone], err))
			return nil
		}
		s.mu.Lock()
		s.lost[next] = true
		s.mu.Unlock()
		s.log.Warn("bootstrap: the next hub is lost, too", "rank", s.rank, "hub", s.peers[next].String(), "cause", err)
		s.events.publish(s.event(PeerLost, next, fmt.Sprintf("it did not take the place of rank %d: %v", gone, err)))
		if errors.Is(err, errNoHost) {
			s.loseNode(next, err.Error())
		}
	}
	s.breakOff(failuref(codeClosed, "the session is closed"))
	return nil
}

// loseNode counts the ranks of a rank's node as lost, too: its host did not answer, and to try each of them takes as long again.
func (s *Session) loseNode(rank int, how string) {
	if s.peers[rank].HostID == s.peers[s.rank].HostID {
		return
	}
	for mate := range s.peers {
		s.mu.Lock()
		fresh := s.peers[mate].HostID == s.peers[rank].HostID && !s.lost[mate]
		if fresh {
			s.lost[mate] = true
		}
		s.mu.Unlock()
		if fresh {
			s.events.publish(s.event(PeerLost, mate, fmt.Sprintf("it is on the host of rank %d: %s", rank, how)))
		}
	}
}

// successor returns the lowest rank that is not known to be lost; this one is not.
func (s *Session) successor() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rank := range s.peers {
		if !s.lost[rank] {
			return rank
		}
	}
	return s.rank
}

// comeOver returns a connection to the next hub, which may be this rank. errCutOff says that the next hub is there and no hub,
// errNoHost that nothing came back from its host.
func (s *Session) comeOver(next int) (net.Conn, error) {
	if next == s.rank {
		return s.takeOver(), nil
	}
	ctx, cancel := context.WithTimeout(s.life, s.cfg.pace.succession)
	defer cancel()
	h := hello.Hello{Purpose: hello.Control, PeerRank: next, Token: s.claim()}
	var t attempts
	began := time.Now()
	for pause := firstBackoff; ; pause = min(2*pause, s.cfg.pace.backoff) {
		conn, heard, err := s.reach(ctx, next, h)
		t.heard = t.heard || heard
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			t.failed = err
			return nil, t.outcome(time.Now(), s.cfg.pace.attempt)
		case !t.heard && time.Since(began) >= s.cfg.pace.attempt:
			return nil, fmt.Errorf("%w: %w", errNoHost, err)
		case errors.Is(err, syscall.ECONNREFUSED): // its process is gone
			return nil, err
		case errors.Is(err, hello.ErrRefused):
			t.refused, t.at = fmt.Errorf("%w: %w", errCutOff, err), time.Now()
			if !strings.Contains(err.Error(), errNotHub.Error()) {
				return nil, t.refused
			}
		default:
			t.failed = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, t.outcome(time.Now(), s.cfg.pace.attempt)
		}
	}
}

// attempts are those of a rank to come over to the next hub.
type attempts struct {
	refused error // the last answer: that the rank is there, and no hub
	at      time.Time
	failed  error // the last try without an answer
	heard   bool  // its host has said something to one of them, if only that nobody listens
}

// outcome is what all tries come to when their time is over, nil if there was none. The last one may have failed for that reason
// alone: a rank that has answered within the time of one try is there.
func (t *attempts) outcome(now time.Time, try time.Duration) error {
	if t.failed != nil && !t.heard {
		return fmt.Errorf("%w: %w", errNoHost, t.failed)
	}
	if t.refused != nil && (t.failed == nil || now.Sub(t.at) < try) {
		return t.refused
	}
	return t.failed
}

// reach tries a rank's addresses in turn. heard is whether anything came back from one of them.
func (s *Session) reach(ctx context.Context, rank int, h hello.Hello) (conn net.Conn, heard bool, err error) {
	d := hello.Dialer{Identity: s.cfg.identity(), Timeout: s.cfg.pace.attempt}
	d.Identity.Rank = s.rank
	err = errors.New("no address of it is known")
	for _, addr := range s.peers[rank].Addrs {
		if conn, _, err = d.Dial(ctx, addr.String(), h); err == nil {
			tune(conn, s.cfg.Heartbeat)
			return conn, true, nil
		}
		heard = heard || !unanswered(err)
		if errors.Is(err, hello.ErrRefused) {
			return nil, heard, err
		}
	}
	return nil, heard, err
}

// unanswered reports whether the error of a hello is that nothing came back from the other host, not even a refusal.
func unanswered(err error) bool {
	var op *net.OpError
	return pulse.Cut(err) || errors.As(err, &op) && op.Op == "dial" && op.Timeout()
}

// takeOver makes this rank the hub and returns its own way to it.
func (s *Session) takeOver() net.Conn {
	s.mu.Lock()
	h := newSuccessor(s.cfg, s.peers, s.lost)
	s.hub = h
	seen := s.saw.how != ""
	s.mu.Unlock()
	s.log.Info("bootstrap: this rank is the control channel's hub now", "rank", s.rank)
	mine, hubs := net.Pipe()
	h.comeOver(s.rank, hubs)
	s.listener.Handle(hello.Control, h.succession(s.peers))
	if seen {
		s.wg.Go(s.summon)
	}
	return mine
}

// install makes conn the way to the hub and repeats what no hub has answered.
func (s *Session) install(hub int, conn net.Conn) *wire {
	w := newWire(conn)
	s.wg.Go(w.run)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wire, s.hubRank = w, hub
	if s.life.Err() != nil { // Close has been through here, and kills nothing any more
		defer w.kill()
	}
	if s.hub == nil { // else it summons others by it
		s.saw = sighting{}
	}
	for _, frame := range s.reports {
		w.send(frame)
	}
	for _, c := range s.calls {
		w.send(c.frame)
	}
	for _, frame := range s.told {
		w.send(frame) // it may have been lost with the old one; the first cause stays, so twice does no harm
	}
	for _, frame := range s.later {
		w.send(frame)
	}
	s.later = nil
	if s.closing {
		w.send(newFrame(kindGoodbye, nil))
	}
	return w
}

// failWaiters ends the exchanges in flight. s.mu is held.
func (s *Session) failWaiters(f *failure) {
	for key, wait := range s.waiters {
		delete(s.waiters, key)
		wait <- result{failure: f}
	}
}

// breakOff ends the channel.
func (s *Session) breakOff(f *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = f
	s.failWaiters(f)
	for key, c := range s.calls {
		delete(s.calls, key)
		c.done <- calledRoll{failure: f}
	}
}

// claim is what a rank says that comes over: which process of the job it is, and whether it saw the former hub end.
type claim struct {
	host string
	pid  int
	saw  sighting
}

// claim returns this rank's.
func (s *Session) claim() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	me := &s.peers[s.rank]
	return (&claim{me.Host, me.PID, s.saw}).encode()
}

func (c *claim) encode() []byte {
	var e encoder
	e.text(c.host, maxName)
	e.u32(c.pid)
	e.u32(c.saw.rank)
	e.text(c.saw.how, maxName)
	return e
}

func parseClaim(token []byte) (c claim, err error) {
	d := decoder{rest: token}
	c.host, c.pid = d.text(maxName), d.u32(math.MaxInt32)
	c.saw = sighting{d.u32(maxWorldSize - 1), d.text(maxName)}
	return c, d.end()
}

// newSuccessor returns the hub of a rank that takes the place of one that is lost.
func newSuccessor(cfg Config, peers []PeerInfo, lost map[int]bool) *hub {
	h := newHub(cfg)
	h.phase = phaseMet
	h.wg.Go(func() { heartbeat(cfg.Heartbeat, h.empty, h.wires) })
	close(h.decided)
	for rank := range h.members {
		m := &h.members[rank]
		m.host, m.pid = peers[rank].Host, peers[rank].PID
		if lost[rank] {
			m.lost = failuref(codeLost, "%v is lost", peers[rank])
			continue
		}
		m.awaited = true
		h.awaited++
	}
	time.AfterFunc(cfg.pace.succession, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.giveUpAwaited()
	})
	return h
}

// succession connects a successor with its listener.
func (h *hub) succession(peers []PeerInfo) hello.Handler {
	return hello.Handler{
		Admit: func(hi hello.Hello) error {
			c, err := parseClaim(hi.Token)
			if err != nil {
				return err
			}
			if hi.Rank >= len(peers) || peers[hi.Rank].Host != c.host || peers[hi.Rank].PID != c.pid {
				return fmt.Errorf("pid %d on %s is not rank %d of this job", c.pid, c.host, hi.Rank)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if f := h.gone(hi.Rank); f != nil {
				return f
			}
			return nil
		},
		Serve: func(hi hello.Hello, conn net.Conn) {
			tune(conn, h.cfg.Heartbeat)
			h.comeOver(hi.Rank, conn)
		},
	}
}

// comeOver takes in a member of the star whose hub is lost.
func (h *hub) comeOver(rank int, conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := &h.members[rank]
	if !m.awaited || h.phase != phaseMet {
		conn.Close()
		return
	}
	m.awaited = false
	h.awaited--
	m.wire = newWire(conn)
	h.connected++
	w := m.wire
	h.wg.Go(w.run)
	h.wg.Go(func() { h.read(rank, w) })
	for _, frame := range m.backlog {
		w.send(frame)
	}
	m.backlog = nil
}

// giveUpAwaited counts those who have not come over as lost.
func (h *hub) giveUpAwaited() {
	for rank := range h.members {
		if m := &h.members[rank]; m.awaited {
			m.awaited, m.backlog = false, nil
			h.awaited--
			if h.phase == phaseMet {
				h.cfg.Logger.Warn("bootstrap: a rank did not come over to the new hub", slog.Int("rank", rank), slog.String("process", m.process()))
				h.lose(rank, errNotCome)
			}
		}
	}
	h.checkEmpty()
}

var errNotCome = errors.New("it did not come over when another rank became the control channel's hub")
