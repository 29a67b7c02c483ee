// SPDX-License-Identifier: Apache-2.0

package hostmem

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's names, which package unix lacks (linux/mempolicy.h).
const (
	mpolPreferred    = 1
	mpolInterleave   = 3
	mpolMove         = 2 // MPOL_MF_MOVE
	mpolMemsAllowed  = 4 // MPOL_F_MEMS_ALLOWED
	maxNodes         = 1024
	policyOfSegments = "NUMA memory policy of a segment"
)

// nodeMask is a set of NUMA nodes as the kernel takes it.
type nodeMask [maxNodes / bits.UintSize]uint

// kernelNodes is the size of a nodeMask for the kernel, which counts one more than it reads.
const kernelNodes = maxNodes + 1

func (m *nodeMask) numbers() (all []int) {
	for i, word := range m {
		for ; word != 0; word &= word - 1 {
			all = append(all, i*bits.UintSize+bits.TrailingZeros(word))
		}
	}
	return all
}

// AllowedNodes returns the NUMA nodes of which this process may have memory, ascending: all that have some, or fewer in a
// cpuset. Errors: those of Interleave where the kernel or a container does not let processes ask.
func AllowedNodes() ([]int, error) {
	var m nodeMask
	_, _, errno := unix.Syscall6(unix.SYS_GET_MEMPOLICY, 0, uintptr(unsafe.Pointer(&m)), kernelNodes, 0, mpolMemsAllowed, 0)
	if errno != 0 {
		return nil, policyError("get_mempolicy", errno)
	}
	return m.numbers(), nil
}

// Interleave spreads the pages of [lo, hi) of the base over nodes, page by page in turn, for bandwidth: the pages that lie
// in it as a whole, so that neighbours keep their own policy.
//
// The policy belongs to the memory, not to this member: all members get it, and one of them calls. It holds for pages that
// come later; pages that are there move, except those that other members have mapped too or a device has pinned. So the
// place for it is Config.Prepare.
//
// Errors: a range outside the base, ErrClosed, a node without memory for this process. One that is errors.ErrUnsupported
// means that there are no policies and the system places the pages: a kernel without NUMA, a container without
// CAP_SYS_NICE, and the segments of NewLocal, whose base is on the Go heap, where a policy would outlive the segment.
func (s *Segment) Interleave(lo, hi int64, nodes []int) error {
	return s.setPolicy(lo, hi, mpolInterleave, nodes)
}

// Prefer puts the pages of [lo, hi) of the base on one node, for latency, or elsewhere when that is full. The rest is as
// for Interleave.
func (s *Segment) Prefer(lo, hi int64, node int) error {
	return s.setPolicy(lo, hi, mpolPreferred, []int{node})
}

func (s *Segment) setPolicy(lo, hi int64, mode uintptr, nodes []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case lo < 0 || hi > int64(len(s.base)) || lo > hi:
		return fmt.Errorf("hostmem: %s: [%d, %d) is not within its base of %d bytes", policyOfSegments, lo, hi, len(s.base))
	case s.fd < 0:
		return fmt.Errorf("hostmem: %s within one process, which is on the Go heap: %w", policyOfSegments, errors.ErrUnsupported)
	}
	mask, err := maskOf(nodes)
	if err != nil {
		return err
	}
	page := int64(unix.Getpagesize())
	lo, hi = roundUp(lo, page), hi/page*page
	if lo >= hi {
		return nil // no whole page
	}
	_, _, errno := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(&s.base[lo])), uintptr(hi-lo), mode, uintptr(unsafe.Pointer(mask)), kernelNodes, mpolMove)
	if errno != 0 {
		return policyError(fmt.Sprintf("mbind of %d bytes to nodes %v", hi-lo, nodes), errno)
	}
	return nil
}

// maskOf returns the set of nodes, of which the kernel would leave those out silently that it does not allow.
func maskOf(nodes []int) (*nodeMask, error) {
	allowed, err := AllowedNodes()
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("hostmem: %s: no node is named", policyOfSegments)
	}
	var m nodeMask
	for _, n := range nodes {
		if !slices.Contains(allowed, n) {
			return nil, fmt.Errorf("hostmem: %s: this process can have no memory of node %d; it can of nodes %v (Mems_allowed_list in /proc/self/status)", policyOfSegments, n, allowed)
		}
		m[n/bits.UintSize] |= 1 << (n % bits.UintSize)
	}
	return &m, nil
}

// policyError says which call failed; one that the kernel does not have or does not let this process do is
// errors.ErrUnsupported as well.
func policyError(call string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("hostmem: %s: %w (%w): a container needs CAP_SYS_NICE for it (docker run --cap-add SYS_NICE), or a seccomp profile that allows mbind and get_mempolicy", call, err, errors.ErrUnsupported)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("hostmem: %s: %w (%w): the kernel has no NUMA policies, or a container hides them (docker run --cap-add SYS_NICE)", call, err, errors.ErrUnsupported)
	}
	return fmt.Errorf("hostmem: %s: %w", call, err)
}
