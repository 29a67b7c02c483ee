// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"fmt"
)

// The errors that calls return, wrapped with what happened; test with errors.Is.
var (
	// ErrInvalid: an argument or option is wrong. Nothing was changed; the Comm stays usable.
	ErrInvalid = errors.New("hfreduce: invalid argument")
	// ErrClosed: the Comm was closed by this rank.
	ErrClosed = errors.New("hfreduce: communicator is closed")
	// ErrAborted: Abort was called here or on a peer, or the context of a call in progress ended.
	ErrAborted = errors.New("hfreduce: communicator was aborted")
	// ErrPeerLost: a rank's process or connection is gone.
	ErrPeerLost = errors.New("hfreduce: peer lost")
	// ErrMismatch: ranks made different calls.
	ErrMismatch = errors.New("hfreduce: ranks made different calls")
	// ErrTimeout: a collective made no progress for Options.Timeout, or the ranks did not meet within Options.InitTimeout.
	ErrTimeout = errors.New("hfreduce: timed out")
	// ErrCorrupt: data was not what a rank had sent or got (Options.Checksum, Options.VerifyResults). The text names the ranks.
	ErrCorrupt = errors.New("hfreduce: corrupt data")
	// ErrNotSupported: this build or machine lacks a feature that was asked for.
	ErrNotSupported = errors.New("hfreduce: not supported")
)

// OpError says which call of which rank failed. Unwrap gives the cause.
type OpError struct {
	Op   string // the collective, e.g. "AllReduce"
	Rank int    // the rank that reports
	Seq  uint64 // number of the collective on its Comm, from 1; 0 when it never started
	Err  error  // the cause
}

// Error returns one line.
func (e *OpError) Error() string {
	if e.Seq == 0 {
		return fmt.Sprintf("hfreduce: %s on rank %d: %v", e.Op, e.Rank, e.Err)
	}
	return fmt.Sprintf("hfreduce: %s #%d on rank %d: %v", e.Op, e.Seq, e.Rank, e.Err)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
