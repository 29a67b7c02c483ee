// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"errors"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
)

var _ transport.Breaker = (*Link)(nil)

// errBroken is the cause that Break gives.
var errBroken = errors.New("it was made to break")

// Break implements transport.Breaker: the next Poll gives everything back without a goodbye.
func (l *Link) Break() {
	if l.cause == nil {
		l.cause = errBroken
	}
}

// BreakAmid implements transport.Breaker. Nothing of the message lands: a device writes all of it or nothing.
func (l *Link) BreakAmid(transport.Message, int) { l.Break() }
