// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// hub is rank 0's side of the star: it gathers the ranks, then passes messages between them. Every rank, rank 0
// included, is a member at the end of a wire.
type hub struct {
	cfg Config

	wg sync.WaitGroup // readers and writers of all wires, heartbeat

	mu        sync.Mutex
	phase     phase
	members   []member
	arrived   int           // while gathering
	turned    int           // ranks that were turned away
	connected int           // wires that have not ended
	failed    *failure      // why the rendezvous failed
	decided   chan struct{} // closed when gathering ends
	awaited   int           // at a successor: members that have not come over yet
	empty     chan struct{} // closed when no member is connected, or awaited, any more, after gathering
	exchanges *exchanges
	cases     *cases
	rolls     *rolls
}

// maxTurnedLines bounds how many ranks that are turned away the log is told of: somebody may try for days.
const maxTurnedLines = 20

// phase of the hub: gathering -> met -> closed, or gathering -> failed.
type phase uint8

const (
	phaseGathering phase = iota
	phaseMet
	phaseFailed
	phaseClosed
)

// member is one rank as the hub sees it.
type member struct {
	arrival
	wire  *wire      // nil: not arrived
	seen  netip.Addr // the address it came from
	local netip.Addr // the address it came to
	once  bool       // has arrived before
	left  bool       // said goodbye
	lost  *failure   // ended without goodbye
	// At a successor: the rank has not come over yet, and this is what it will get to hear.
	awaited bool
	backlog [][]byte
}

// post sends a message to the member if it is there, or when it comes.
func (m *member) post(frame []byte) {
	switch {
	case m.wire != nil:
		m.wire.send(frame)
	case m.awaited:
		m.backlog = append(m.backlog, frame)
	}
}

// current says whether w is the member's connection, and not one that was replaced.
func (m *member) current(w *wire) bool { return m.wire == w }

func newHub(cfg Config) *hub {
	return &hub{
		cfg: cfg, members: make([]member, cfg.WorldSize), exchanges: newExchanges(), cases: newCases(cfg.Judge), rolls: newRolls(cfg.Rank),
		decided: make(chan struct{}), empty: make(chan struct{}),
	}
}

// handler connects the hub with rank 0's listener.
func (h *hub) handler() hello.Handler {
	return hello.Handler{
		Admit: func(hi hello.Hello) error {
			_, err := parseArrival(hi.Token)
			return err
		},
		Serve: func(hi hello.Hello, conn net.Conn) {
			if a, err := parseArrival(hi.Token); err == nil {
				tune(conn, h.cfg.Heartbeat)
				h.arrive(hi.Rank, a, conn)
			}
		},
	}
}

// arrive takes in a rank, or turns it away.
func (h *hub) arrive(rank int, a arrival, conn net.Conn) {
	h.mu.Lock()
	if f := h.refuse(rank, &a); f != nil {
		h.turned++
		told := h.turned > maxTurnedLines
		h.mu.Unlock()
		if !told {
			h.cfg.Logger.Warn("bootstrap: turned a rank away", slog.Int("rank", rank), slog.Any("reason", f))
		}
		turnAway(conn, f)
		return
	}
	defer h.mu.Unlock()
	m := &h.members[rank]
	if m.wire != nil { // the same process again: its first connection failed halfway
		m.wire.kill()
		h.arrived--
	}
	*m = member{arrival: a, wire: newWire(conn), seen: addrOf(conn.RemoteAddr()), local: addrOf(conn.LocalAddr()), once: true}
	h.arrived++
	h.connected++
	w := m.wire
	h.wg.Go(w.run)
	h.wg.Go(func() { h.read(rank, w) })
	if h.arrived == len(h.members) {
		h.meet()
		return
	}
	w.send(waitingFrame(h.waiting()))
}

// refuse says why a rank cannot be taken in, or nil; a contradiction between ranks fails the whole rendezvous.
func (h *hub) refuse(rank int, a *arrival) *failure {
	zero := &h.members[0]
	switch {
	case h.phase == phaseFailed:
		return h.failed
	case h.phase == phaseClosed:
		return failuref(codeClosed, "rank 0 is closing")
	case a.worldSize != len(h.members):
		f := failuref(codeMismatch, "rank %d (%s) has world size %d, rank 0 (%s) has %d; start all ranks with one world size",
			rank, a.process(), a.worldSize, zero.process(), len(h.members))
		h.fail(f)
		return f
	case rank >= len(h.members):
		f := failuref(codeMismatch, "rank %d (%s) is not within 0..%d", rank, a.process(), len(h.members)-1)
		h.fail(f)
		return f
	case h.phase == phaseMet:
		return failuref(codeMismatch, "all ranks have met already; rank %d is %s, and %s claims the same rank",
			rank, h.members[rank].process(), a.process())
	case h.members[rank].wire != nil && h.members[rank].id != a.id:
		f := failuref(codeMismatch, "two processes have rank %d: %s and %s; give every process a rank of its own",
			rank, h.members[rank].process(), a.process())
		h.fail(f)
		return f
	}
	return nil
}

// meet ends the gathering with success.
func (h *hub) meet() {
	h.phase = phaseMet
	oneHost := true
	for i := range h.members {
		oneHost = oneHost && h.members[i].hostID == h.members[0].hostID
	}
	peers := make([]PeerInfo, len(h.members))
	for rank := range h.members {
		m := &h.members[rank]
		seen := m.seen
		if rank == 0 {
			seen = h.members[len(h.members)-1].local // where the others reach rank 0
		}
		if peers[rank] = m.peer(rank, oneHost, seen); len(peers[rank].Addrs) == 0 {
			h.phase = phaseGathering
			h.fail(failuref(codeOther, "%v has no network address but loopback, and the job has several hosts; "+
				"check its interfaces and HFREDUCE_INTERFACES", peers[rank]))
			return
		}
	}
	h.broadcast(tableFrame(peers), nil)
	h.wg.Go(func() { heartbeat(h.cfg.Heartbeat, h.empty, h.wires) })
	close(h.decided)
}

// fail ends the gathering and tells everybody who has arrived.
func (h *hub) fail(f *failure) {
	if h.phase != phaseGathering {
		return
	}
	h.phase, h.failed = phaseFailed, f
	h.broadcast(failedFrame(f), nil)
	for i := range h.members {
		if w := h.members[i].wire; w != nil {
			w.finish()
		}
	}
	close(h.decided)
}

// giveUp is fail for a caller without the lock: rank 0's deadline or context ended.
func (h *hub) giveUp(reason func(waiting string) *failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail(reason(h.waiting()))
}

// failure says why the rendezvous failed, or nil.
func (h *hub) failure() *failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// waiting says who is missing.
func (h *hub) waiting() string {
	var missing, back []int
	for rank := range h.members {
		if m := &h.members[rank]; m.wire == nil {
			missing = append(missing, rank)
			if m.once {
				back = append(back, rank)
			}
		}
	}
	s := fmt.Sprintf("waiting for %s (%d of %d arrived)", FormatRanks(missing), h.arrived, len(h.members))
	if len(back) > 0 {
		s += fmt.Sprintf("; %s had arrived (%s) and left", FormatRanks(back), h.members[back[0]].process())
	}
	return s
}

// refresh tells those who have arrived who is missing, if that is not what was told last; it returns the list.
func (h *hub) refresh(told string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.waiting()
	if h.phase == phaseGathering && list != told {
		h.broadcast(waitingFrame(list), nil)
	}
	return list
}

// broadcast queues a message for all connected members for whom skip does not hold.
func (h *hub) broadcast(frame []byte, skip func(rank int) bool) {
	for rank := range h.members {
		if m := &h.members[rank]; !m.left && m.lost == nil && (skip == nil || !skip(rank)) {
			m.post(frame)
		}
	}
}

// wires returns the connections of all members.
func (h *hub) wires(ws []*wire) []*wire {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.members {
		if w := h.members[i].wire; w != nil { // else it has not come over to a new hub yet
			ws = append(ws, w)
		}
	}
	return ws
}

// close ends all connections and waits for their goroutines.
func (h *hub) close() {
	h.mu.Lock()
	if h.phase != phaseFailed {
		h.phase = phaseClosed
	}
	h.giveUpAwaited()
	for i := range h.members {
		if w := h.members[i].wire; w != nil {
			w.kill()
		}
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// turnAway tells a rank why it cannot join.
func turnAway(conn net.Conn, f *failure) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(lastWords))
	if _, err := conn.Write(failedFrame(f)); err != nil {
		return
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	conn.Read(make([]byte, 1)) // until it has read and closed
}

// lastWords is how long ranks get to read why they were turned away, or that rank 0 closes.
const lastWords = 500 * time.Millisecond

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
