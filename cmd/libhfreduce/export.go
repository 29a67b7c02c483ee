// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

// #include "call.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce"
)

func main() {}

// put writes text where C has room for it, cut if need be, with a zero behind it.
func put(at *C.char, size C.size_t, text string) {
	if size == 0 {
		return
	}
	room := unsafe.Slice((*byte)(unsafe.Pointer(at)), int(size))
	n := copy(room[:len(room)-1], text)
	room[n] = 0
}

// status returns the number of an error, and writes its text; without an error the text stays.
func status(err error, text *C.char, size C.size_t) C.hfr_status {
	if err == nil {
		return C.HFR_OK
	}
	put(text, size, err.Error())
	for _, known := range []struct {
		err    error
		status C.hfr_status
	}{
		{hfreduce.ErrInvalid, C.HFR_ERR_INVALID}, {hfreduce.ErrNotSupported, C.HFR_ERR_NOT_SUPPORTED}, {hfreduce.ErrCorrupt, C.HFR_ERR_CORRUPT},
		{hfreduce.ErrPeerLost, C.HFR_ERR_PEER_LOST}, {hfreduce.ErrMismatch, C.HFR_ERR_MISMATCH}, {hfreduce.ErrTimeout, C.HFR_ERR_TIMEOUT},
		{hfreduce.ErrAborted, C.HFR_ERR_ABORTED}, {hfreduce.ErrClosed, C.HFR_ERR_CLOSED},
	} {
		if errors.Is(err, known.err) {
			return known.status
		}
	}
	return C.HFR_ERR_SYSTEM
}

//export hfrgo_version
func hfrgo_version(text *C.char, size C.size_t) { put(text, size, hfreduce.Version()) }

// goString copies a text of C's, "" for NULL.
func goString(s *C.char) string {
	if s == nil {
		return ""
	}
	return C.GoString(s)
}

func milliseconds(ms C.int64_t) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(max(-1, min(int64(ms), most))) * time.Millisecond
}

//export hfrgo_init
func hfrgo_init(o *C.hfr_options, out *C.hfr_comm, text *C.char, size C.size_t) C.hfr_status {
	c, err := hfreduce.Init(context.Background(), hfreduce.Options{
		Rank: int(o.rank), WorldSize: int(o.world_size), Rendezvous: goString(o.rendezvous), JobID: goString(o.job_id), Node: goString(o.node),
		Transport: goString(o.transport), CUDA: goString(o.cuda), InitTimeout: milliseconds(o.init_timeout_ms), Timeout: milliseconds(o.timeout_ms),
	})
	if err == nil {
		*out = C.hfr_comm(comms.add(&comm{Comm: c}))
	}
	return status(err, text, size)
}

//export hfrgo_split
func hfrgo_split(n C.hfr_comm, color, key C.int32_t, out *C.hfr_comm, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err != nil {
		return status(err, text, size)
	}
	part, err := c.Split(context.Background(), int(color), int(key))
	if err == nil && part != nil {
		*out = C.hfr_comm(comms.add(&comm{Comm: part}))
	}
	return status(err, text, size)
}

//export hfrgo_shrink
func hfrgo_shrink(n C.hfr_comm, out *C.hfr_comm, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err != nil {
		return status(err, text, size)
	}
	smaller, err := c.Shrink(context.Background())
	if err == nil {
		*out = C.hfr_comm(comms.add(&comm{Comm: smaller}))
	}
	return status(err, text, size)
}

//export hfrgo_info
func hfrgo_info(n C.hfr_comm, out *C.hfr_info, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err == nil {
		*out = C.hfr_info{
			rank: C.int32_t(c.Rank()), world_size: C.int32_t(c.WorldSize()), local_rank: C.int32_t(c.LocalRank()),
			local_size: C.int32_t(c.LocalSize()), node: C.int32_t(c.Node()), nodes: C.int32_t(c.Nodes()),
		}
	}
	return status(err, text, size)
}

//export hfrgo_abort
func hfrgo_abort(n C.hfr_comm, why *C.char, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err == nil {
		c.Abort(errors.New(goString(why)))
	}
	return status(err, text, size)
}

//export hfrgo_close
func hfrgo_close(n C.hfr_comm, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err == nil && !comms.remove(uint64(n)) {
		err = fmt.Errorf("%w: hfr_comm %d is being closed", hfreduce.ErrInvalid, uint64(n))
	}
	if err == nil {
		err = c.Close(context.Background())
	}
	return status(err, text, size)
}

//export hfrgo_alloc
func hfrgo_alloc(n C.hfr_comm, bytes C.size_t, out *unsafe.Pointer, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err == nil && bytes > math.MaxInt64 {
		err = fmt.Errorf("%w: hfr_alloc: %d bytes", hfreduce.ErrInvalid, uint64(bytes))
	}
	if err == nil {
		*out, err = c.alloc(int64(bytes))
	}
	return status(err, text, size)
}

//export hfrgo_free
func hfrgo_free(n C.hfr_comm, memory C.uintptr_t, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(n))
	if err == nil && memory != 0 {
		err = c.free(uintptr(memory))
	}
	return status(err, text, size)
}

//export hfrgo_wait
func hfrgo_wait(n C.hfr_request, timeout C.int64_t, text *C.char, size C.size_t) C.hfr_status {
	r, err := requests.get(uint64(n))
	if err != nil {
		return status(err, text, size)
	}
	if !doneWithin(r, timeout) {
		return C.HFR_IN_PROGRESS
	}
	requests.remove(uint64(n))
	return status(r.Err(), text, size)
}

// doneWithin waits for a request, for so many milliseconds; for ever if they are negative.
func doneWithin(r *hfreduce.Request, ms C.int64_t) bool {
	select {
	case <-r.Done(): // also if there is no time at all
		return true
	default:
	}
	if ms < 0 {
		<-r.Done()
		return true
	}
	timer := time.NewTimer(milliseconds(ms))
	defer timer.Stop()
	select {
	case <-r.Done():
		return true
	case <-timer.C:
		return false
	}
}
