// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cpus

import (
	"errors"
	"fmt"
	"runtime"
)

var errSystem = fmt.Errorf("cpus: %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Allowed returns errors.ErrUnsupported.
func Allowed() (Set, error) { return "", errSystem }

// BindThread returns errors.ErrUnsupported.
func BindThread(Set) (restore func(), err error) { return nil, errSystem }
