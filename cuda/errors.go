// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
)

// The errors that calls return, wrapped with what happened; test with errors.Is.
var (
	// ErrNotSupported: this build, machine, driver or device lacks what was asked for; the text says what is missing. It
	// is also errors.ErrUnsupported.
	ErrNotSupported error = notSupported{}
	// ErrInvalid: an argument is out of the range that its documentation gives; nothing was called.
	ErrInvalid = errors.New("cuda: invalid argument")
)

// notSupported is ErrNotSupported with what is missing.
type notSupported struct{ missing string }

func (e notSupported) Error() string {
	if e.missing == "" {
		return "cuda: not supported"
	}
	return "cuda: not supported: " + e.missing
}

func (e notSupported) Is(target error) bool {
	return target == ErrNotSupported || target == errors.ErrUnsupported
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// The codes that this package looks at. The runtime and the driver have the same ones.
const (
	codeStubLibrary        = 34
	codeInsufficientDriver = 35
	codeNeedsNewerDriver   = 36
	codeNoDevice           = 100
	codeNotReady           = 600
	codePeerEnabled        = 704
	codeNotSupported       = 801
)

// result is how a call of CUDA ended, struct cu_result in seam.h.
type result struct{ code, call int }

// Error is a call of CUDA that failed. It is [ErrNotSupported] for errors.Is where the code says that the machine has no
// device, no driver but a stub of it to link with, a driver that is too old, or not what was asked for.
type Error struct {
	Call string // the C function, e.g. "cudaMalloc"
	What string // of what and where, e.g. "4 GiB on device 1"; may be empty
	Code int    // the cudaError_t or CUresult
	Name string // CUDA's name of the code, e.g. "cudaErrorMemoryAllocation"
	Text string // CUDA's text, e.g. "out of memory"
}

// Error returns one line.
func (e *Error) Error() string {
	text := "cuda: " + e.Call
	if e.What != "" {
		text += " " + e.What
	}
	if e.Name == "" {
		text += fmt.Sprintf(": error %d", e.Code)
	} else {
		text += fmt.Sprintf(": %s (%d)", e.Name, e.Code)
	}
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Is reports whether target is ErrNotSupported and the code says so.
func (e *Error) Is(target error) bool {
	if target != ErrNotSupported && target != errors.ErrUnsupported {
		return false
	}
	switch e.Code {
	case codeNotSupported, codeNoDevice, codeStubLibrary, codeInsufficientDriver, codeNeedsNewerDriver:
		return true
	}
	return false
}

// Sticky reports whether the context is lost: every further call of this process on the device will fail with this
// error, and only a new process can use the device again. So it is after a fault of a CUDA kernel or of the hardware, and when
// MPS has ended this process's part.
func (e *Error) Sticky() bool {
	switch e.Code {
	case 214, 220, 226, // the memory's or NVLink's errors could not be corrected, or were contained
		700, 702, 709, 710, // illegal address, launch timeout, context destroyed, assertion
		714, 715, 716, 717, 718, 719, 721, // faults of a CUDA kernel
		810, 911, // MPS has ended this client; an error outside CUDA that it waited for
		999: // unknown
		return true
	}
	return false
}

// failed returns the error of a call, nil if it had success.
func failed(r result, what string) error {
	if r.code == 0 {
		return nil
	}
	e := &Error{What: what, Code: r.code}
	e.Call, e.Name, e.Text = rawText(r)
	return e
}

// size writes a number of bytes for people: exact, in the largest binary unit that divides it.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n != 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
