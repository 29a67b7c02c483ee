// SPDX-License-Identifier: Apache-2.0

package kernelbench

// yardstick is a way to copy memory.
type yardstick struct {
	name  string // with what tells it from others of its kind
	short string // in the head of the table
	copy  func(to, from []byte, times int)
}

// goCopy is Go's copy.
func goCopy() yardstick {
	return yardstick{name: "copy (Go)", short: "copy", copy: func(to, from []byte, times int) {
		for range times {
			copy(to, from)
		}
	}}
}

// yardsticks returns the copies to measure; the first one is the limit that ratios refer to.
func yardsticks() []yardstick {
	if libc, ok := libcCopy(); ok {
		return []yardstick{libc, goCopy()}
	}
	return []yardstick{goCopy()}
}
