// SPDX-License-Identifier: Apache-2.0

package rdma

import "fmt"

// Channel is a completion channel: it tells by a file descriptor that a CQ has something.
type Channel struct {
	object
	fd int
}

// CreateChannel makes a completion channel.
//
// Implements: ibv_create_comp_channel.
func (d *Device) CreateChannel() (*Channel, error) {
	c := &Channel{}
	err := c.create(kindChannel, d.device, func() (handle, error) {
		h, fd, errno := rawCreateChannel(d.handle)
		c.fd = fd
		return h, d.failed(errno, "ibv_create_comp_channel", "")
	}, &d.object)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// FD returns the file descriptor that is readable while the channel has events. It is non-blocking, belongs to the
// channel and is closed with it, which is when the CQs that use it are closed.
func (c *Channel) FD() int { return c.fd }

// Drain takes and acknowledges all events there are, without blocking, and returns how many. To sleep: [CQ.Arm], poll
// once more, sleep until FD is readable, Drain.
//
// Implements: ibv_get_cq_event, ibv_ack_cq_events.
func (c *Channel) Drain() (n int, err error) {
	if !c.hold() {
		return 0, ErrClosed
	}
	n, errno := rawDrain(c.handle)
	if errno != 0 {
		err = c.failed(errno, "ibv_get_cq_event", "")
	}
	return n, both(err, c.drop())
}

// Close gives the channel back when its CQs are closed.
//
// Implements: ibv_destroy_comp_channel.
func (c *Channel) Close() error { return c.close() }

// CQ is a completion queue.
type CQ struct{ object }

// CreateCQ makes a completion queue that holds at least the given number of entries, up to DeviceAttr.MaxCQE: one for
// every work request that can complete before it is polled, receives included. More than that break the CQ and its QPs.
// The channel, of the same device, tells of completions after Arm; it may be nil.
//
// Implements: ibv_create_cq.
func (d *Device) CreateCQ(entries int, ch *Channel) (*CQ, error) {
	if entries < 1 || entries > 1<<30 {
		return nil, invalidf("a CQ of %d entries", entries)
	}
	q := &CQ{}
	parents, channel := []*object{&d.object}, handle(0)
	if ch != nil {
		if ch.root() != d.root() {
			return nil, invalidf("the channel is not of this opening of %s", d.device)
		}
		parents, channel = append(parents, &ch.object), ch.handle
	}
	err := q.create(kindCQ, d.device, func() (handle, error) {
		h, errno := rawCreateCQ(d.handle, entries, channel)
		return h, explainPinning(d.failed(errno, "ibv_create_cq", fmt.Sprintf("of %d entries", entries)))
	}, parents...)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Arm asks for one event on the channel when the next completion arrives. A completion that was there before gives
// none: poll after Arm, before sleeping.
//
// Implements: ibv_req_notify_cq.
func (q *CQ) Arm() (err error) {
	if !q.hold() {
		return ErrClosed
	}
	if errno := rawArm(q.handle); errno != 0 {
		err = q.failed(errno, "ibv_req_notify_cq", "")
	}
	return both(err, q.drop())
}

// Poll takes completions of all QPs that use the queue, up to len(done), and returns how many. [QP.Step] does it on the
// way.
//
// Implements: ibv_poll_cq.
func (q *CQ) Poll(done []Completion) (n int, err error) {
	if !q.hold() {
		return 0, ErrClosed
	}
	n, errno := rawPoll(q.handle, done)
	if errno != 0 {
		err = q.failed(errno, "ibv_poll_cq", "")
	}
	return n, both(err, q.drop())
}

// Close gives the queue back when its QPs are closed.
//
// Implements: ibv_destroy_cq.
func (q *CQ) Close() error { return q.close() }
