// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bufio"
	"net"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// wire is one control connection. Messages to it are queued, so that a peer that does not read holds up nobody; one
// goroutine (run) writes them. Reading is the owner's.
type wire struct {
	conn net.Conn
	in   *bufio.Reader

	gauge *pulse.Gauge // nil for a pipe

	mu       sync.Mutex
	queue    [][]byte
	bytes    int
	finished bool          // nothing more will be queued
	why      error         // why this side has ended it, where the reader cannot know
	more     chan struct{} // capacity 1
}

func newWire(conn net.Conn) *wire {
	return &wire{conn: conn, in: bufio.NewReader(conn), gauge: pulse.NewGauge(conn), more: make(chan struct{}, 1)}
}

// run writes what is queued, until finish or kill.
func (w *wire) run() {
	for {
		batch, finished := w.take()
		for _, b := range batch {
			if _, err := w.conn.Write(b); err != nil {
				w.kill() // the reader tells
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		if finished {
			w.halfClose()
			return
		}
		<-w.more
	}
}

func (w *wire) take() (batch [][]byte, finished bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch, w.queue, w.bytes = w.queue, nil, 0
	return batch, w.finished
}

// send queues a message; after finish or kill it is dropped. The bytes may be shared between wires.
func (w *wire) send(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished {
		return
	}
	if w.bytes > maxQueue {
		w.stop() // whoever reads so little is as good as gone, and memory is bounded
		return
	}
	w.queue = append(w.queue, frame)
	w.bytes += len(frame)
	w.wake()
}

// finish lets what is queued go out and then ends our direction.
func (w *wire) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
	w.wake()
}

// kill ends the connection at once, both directions.
func (w *wire) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
}

// expire is kill for a reason that the reader is to tell.
func (w *wire) expire(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		w.why = why
	}
	w.stop()
}

// cause returns why reading has ended with err.
func (w *wire) cause(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why != nil {
		return w.why
	}
	return err
}

func (w *wire) stop() {
	w.finished, w.queue = true, nil
	w.conn.Close()
	w.wake()
}

func (w *wire) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// halfClose ends our direction; a pipe has no halves.
func (w *wire) halfClose() {
	if c, ok := w.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
		return
	}
	w.conn.Close()
}
