// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"syscall"
)

// The errors that calls return, wrapped with what happened; test with errors.Is.
var (
	// ErrNotSupported: this build, machine or device lacks what was asked for; the text says what is missing. It is also
	// errors.ErrUnsupported.
	ErrNotSupported error = notSupported{}
	// ErrClosed: the object, or one that a new object would be made of, was closed.
	ErrClosed = errors.New("rdma: closed")
	// ErrInvalid: an argument is out of the range that its documentation gives; nothing was called.
	ErrInvalid = errors.New("rdma: invalid argument")
)

// notSupported is ErrNotSupported with what is missing.
type notSupported struct{ missing string }

func (e notSupported) Error() string {
	if e.missing == "" {
		return "rdma: not supported"
	}
	return "rdma: not supported: " + e.missing
}

func (e notSupported) Is(target error) bool {
	return target == ErrNotSupported || target == errors.ErrUnsupported
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Error is a call of libibverbs that failed. It is its errno for errors.Is, and [ErrNotSupported] where the errno says
// that the kernel, the library or the device does not know the call.
type Error struct {
	Verb   string        // the C function, e.g. "ibv_reg_mr"
	What   string        // of what and on which device, e.g. "of 64 MiB on mlx5_0"; may be empty
	Errno  syscall.Errno // the error
	Detail string        // what is known of the cause or the remedy; may be empty
}

// Error returns one line.
func (e *Error) Error() string {
	text := "rdma: " + e.Verb
	if e.What != "" {
		text += " " + e.What
	}
	text += ": " + e.Errno.Error()
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

// Is reports whether target is ErrNotSupported and the errno says so.
func (e *Error) Is(target error) bool {
	return target == ErrNotSupported && errors.Is(e.Errno, errors.ErrUnsupported)
}

// failed returns the error of a call, nil if errno is 0.
func failed(errno syscall.Errno, verb, what string) error {
	if errno == 0 {
		return nil
	}
	return &Error{Verb: verb, What: what, Errno: errno}
}

// both joins two errors without touching one that is alone.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}

// size writes a number of bytes for people: exact, in the largest binary unit that divides it.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n != 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
