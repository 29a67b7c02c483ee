// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package pulse

import (
	"errors"
	"time"
)

// Keep does nothing where the options are not those of Linux.
func Keep(int, time.Duration) error { return errors.ErrUnsupported }

// expect does nothing there.
func expect(int, time.Duration) error { return errors.ErrUnsupported }

// Look sees nothing there.
func Look(int) (State, error) { return State{}, errors.ErrUnsupported }
