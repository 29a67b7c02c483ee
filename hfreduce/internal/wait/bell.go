// SPDX-License-Identifier: Apache-2.0

// Package wait holds the three stages of waiting: a bounded spin (Pause), giving the core away (Backoff) and sleeping
// until somebody rings (Bell). On a host with fewer cores than ranks no rank may burn a core that another one needs, and
// on a host with enough cores a rank must see its peers' stores within nanoseconds; the policy between the two is in
// Backoff, the sleep without lost wake-ups is in Bell.
//
// # Sleeping
//
// The owner of a bell, which is the one goroutine that drives a rank, waits so:
//
//	for !condition() {
//		if !backoff.Idle() {
//			continue
//		}
//		bell.Arm()
//		if condition() {
//			bell.Disarm()
//			break
//		}
//		bell.Sleep(timeout)
//	}
//
// Everybody else makes the condition true and then rings:
//
//	atomic.StoreUint32(&flag, seq)
//	bell.Ring()
//
// # Why no wake-up is lost
//
// This is Dekker's pattern: each side stores, then loads what the other side stores. The owner stores "armed" (Arm) and
// then loads the condition; the ringer stores the condition and then loads "armed" (Ring). The four accesses are
// sync/atomic operations, which Go orders in one total order that agrees with each side's program order (amd64 stores
// with XCHG, arm64 with STLR/LDAR), so it can't be that both sides miss the other's store: either the owner sees the
// condition and does not sleep, or the ringer sees "armed" and wakes it. Two processes that map the same memory run on
// the same coherent hardware and the same instructions, so the argument holds between them too. It does not hold for a
// condition that is published by a plain or a release-only store: x86 lets such a store wait in the store buffer while
// the load of "armed" overtakes it. (Built with the race detector, sync/atomic's stores to mapped memory are such stores;
// there, Arm and Ring contain a fence.)
//
// What is left is the window between the owner's second look at the condition and its sleep in the kernel. A ringer that
// saw "armed" leaves a mark before it wakes: the in-process bell a token in a channel of capacity one, the shared bell a
// step of a sequence number that the owner read before it armed. The owner's sleep returns at once when there is a mark.
//
// Ringers do not clear "armed": only the owner does. So a ringer that is killed between its mark and its system call
// takes no later ringer's wake-up with it; the price is one cheap redundant system call for each ring between the first
// ring and the moment the owner runs.
package wait

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotSupported is what Watch returns on a bell that cannot watch file descriptors. It wraps errors.ErrUnsupported.
var ErrNotSupported = fmt.Errorf("wait: this bell cannot watch file descriptors: %w", errors.ErrUnsupported)

// Bell wakes one rank, its owner. Ring may be called from any goroutine, and with NewShared from any process that maps
// the bell's word; all other methods belong to the owner. Ring, Arm, Disarm and Sleep allocate nothing.
//
// A wake-up may be spurious: after Sleep the owner always looks at its condition again.
type Bell interface {
	// Ring wakes the owner if it is armed. If it is not, Ring costs two atomic loads. What is rung for must have been
	// published before by a sync/atomic store (see the package comment). Ringing a closed bell does nothing.
	Ring()
	// Arm makes the bell remember a Ring from now on. After Arm the owner looks at its condition once more, then calls
	// Sleep or Disarm.
	Arm()
	// Disarm takes Arm back: later rings are cheap and are forgotten.
	Disarm()
	// Armed reports whether the owner has armed the bell and neither slept nor disarmed it: it is about to sleep. Only the
	// owner may ask.
	Armed() bool
	// Sleep returns true when somebody rang since Arm or a watched descriptor is ready, at once if that is so already.
	// It returns false when timeout has passed; a timeout of zero or less means none. The bell is disarmed afterwards.
	// Sleep on a bell that is not armed returns true at once.
	Sleep(timeout time.Duration) (rung bool)
	// Watch makes a readable (read) or writable (write) descriptor end the owner's sleep, level-triggered, in addition
	// to rings: a descriptor that is ready and not served ends every sleep at once. It replaces the descriptor's
	// earlier interest; (fd, false, false) removes it, which must happen before the descriptor is closed.
	// Errors: ErrNotSupported, or the system's.
	Watch(fd int, read, write bool) error
	// Close releases what the bell itself created. No other method of the owner may be called afterwards. Close is
	// idempotent.
	Close() error
}
