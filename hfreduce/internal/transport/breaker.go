// SPDX-License-Identifier: Apache-2.0

package transport

// Breaker is a Link that can be made to fail, for tests of what happens then (package fault).
type Breaker interface {
	// Break ends the link without a goodbye, as the end of this rank's process would. Both ends find it broken once they
	// have returned the events that were complete.
	Break()
	// BreakAmid does so while m is being sent, which is not posted otherwise: at most its first bytes bytes land, and it is
	// neither Sent nor Received.
	BreakAmid(m Message, bytes int)
}
