// SPDX-License-Identifier: Apache-2.0

package transport

// Before compares sequence numbers, which wrap: it reports whether a comes before b, given that they are less than 2^31
// apart.
func Before(a, b uint32) bool { return int32(a-b) < 0 }

// Credits is the book of grants at one end of a link, the same for every transport: what the peer may post here, how
// much of that it has been told, and what may be posted to it.
//
//	start <= told <= granted     own grants; granted-told is what a message or a frame of its own must still carry
//	start <= limit               the peer's latest grant as it was heard
type Credits struct {
	granted, told, limit uint32
	threshold            uint32
	force                bool // Flush was called since granted was last told
}

// NewCredits returns the book of a new link.
func NewCredits(c *LinkConfig) Credits {
	return Credits{granted: c.Start, told: c.Start, limit: c.Start, threshold: max(c.Window/2, 1)}
}

// Grant notes a grant of the owner's. One that is not after the latest is ignored.
func (c *Credits) Grant(limit uint32) {
	if Before(c.granted, limit) {
		c.granted = limit
	}
}

// Force makes Due true until the latest grant has been told, if it has not.
func (c *Credits) Force() { c.force = c.granted != c.told }

// Due reports whether the grant must be sent by itself: it was forced, or the peer is Window/2 items behind.
func (c *Credits) Due() bool { return c.force || c.granted-c.told >= c.threshold }

// Granted returns the latest grant, which every message carries.
func (c *Credits) Granted() uint32 { return c.granted }

// Told notes that a message or frame that carries limit is on its way.
func (c *Credits) Told(limit uint32) {
	if Before(c.told, limit) {
		c.told = limit
	}
	if c.told == c.granted {
		c.force = false
	}
}

// Heard notes a grant of the peer's. It reports false for one that goes back, which no peer sends.
func (c *Credits) Heard(limit uint32) bool {
	if Before(limit, c.limit) {
		return false
	}
	c.limit = limit
	return true
}

// Limit returns the peer's latest grant.
func (c *Credits) Limit() uint32 { return c.limit }

// MayPost reports whether the peer granted the item.
func (c *Credits) MayPost(seq uint32) bool { return Before(seq, c.limit) }

// MayReceive reports whether the item was granted to the peer. What arrives without would overwrite an area in use.
func (c *Credits) MayReceive(seq uint32) bool { return Before(seq, c.granted) }
