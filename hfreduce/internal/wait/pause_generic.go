// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package wait

// Pause passes the time of about n PAUSE instructions of amd64.
func Pause(n int) {
	for range n {
		idle()
	}
}

// idle is kept out of line, so that the loop above stays a loop of calls.
//
//go:noinline
func idle() {}
