// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package kernel

// Available reports whether this machine can run b.
func (b Backend) Available() bool { return b == Generic }

// reduceSIMD runs what b has a kernel for and reports whether it has.
func reduceSIMD(Backend, *Spec, []byte, []byte, [][]byte, []float64) bool { return false }

func (Backend) streamSource([]byte, []byte) bool { return false }

// standardEnvironment is true: all backends compute in the thread's environment here.
func standardEnvironment() bool { return true }
