// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

// #include "call.h"
import "C"

import (
	"context"
	"fmt"
	"math"
	"unsafe"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
)

//export hfrgo_collective
func hfrgo_collective(k *C.struct_hfr_call, out *C.hfr_request, text *C.char, size C.size_t) C.hfr_status {
	c, err := comms.get(uint64(k.comm))
	if err != nil {
		return status(err, text, size)
	}
	r, err := start(c.Comm, k)
	if err == nil && k.end == C.HFR_CALL_ASKS {
		*out = C.hfr_request(requests.add(r))
	}
	return status(err, text, size)
}

// start makes a collective: to its end if it is one that waits, else it returns the request.
func start(c *hfreduce.Comm, k *C.struct_hfr_call) (*hfreduce.Request, error) {
	ctx := context.Background()
	if k.kind == C.HFR_CALL_BARRIER {
		return nil, c.Barrier(ctx)
	}
	dst, src, err := buffers(c, k)
	if err != nil {
		return nil, err
	}
	var op hfreduce.Op
	if k.kind == C.HFR_CALL_ALLREDUCE || k.kind == C.HFR_CALL_REDUCE || k.kind == C.HFR_CALL_REDUCE_SCATTER {
		if op, err = operator(k.op); err != nil {
			return nil, err
		}
	}
	if k.end == C.HFR_CALL_WAITS {
		switch k.kind {
		case C.HFR_CALL_ALLREDUCE:
			return nil, c.AllReduce(ctx, dst, src, op)
		case C.HFR_CALL_REDUCE:
			return nil, c.Reduce(ctx, dst, src, op, int(k.root))
		case C.HFR_CALL_BROADCAST:
			return nil, c.Broadcast(ctx, dst, src, int(k.root))
		case C.HFR_CALL_REDUCE_SCATTER:
			return nil, c.ReduceScatter(ctx, dst, src, op)
		default:
			return nil, c.AllGather(ctx, dst, src)
		}
	}
	switch k.kind {
	case C.HFR_CALL_ALLREDUCE:
		return c.AllReduceAsync(dst, src, op)
	case C.HFR_CALL_REDUCE:
		return c.ReduceAsync(dst, src, op, int(k.root))
	case C.HFR_CALL_BROADCAST:
		return c.BroadcastAsync(dst, src, int(k.root))
	case C.HFR_CALL_REDUCE_SCATTER:
		return c.ReduceScatterAsync(dst, src, op)
	default:
		return c.AllGatherAsync(dst, src)
	}
}

// operator returns the operator of a number of hfr_op's.
func operator(n C.int32_t) (hfreduce.Op, error) {
	ops := [...]hfreduce.Op{C.HFR_SUM: hfreduce.Sum, C.HFR_PROD: hfreduce.Prod, C.HFR_MAX: hfreduce.Max, C.HFR_MIN: hfreduce.Min, C.HFR_AVG: hfreduce.Avg}
	if n < 0 || int(n) >= len(ops) {
		return hfreduce.Op{}, fmt.Errorf("%w: %d is no hfr_op", hfreduce.ErrInvalid, int(n))
	}
	return ops[n], nil
}

// buffers returns where a collective writes and reads on this rank.
func buffers(c *hfreduce.Comm, k *C.struct_hfr_call) (dst, src hfreduce.Buffer, err error) {
	d := hfreduce.DataType(k.dtype)
	if k.dtype < 0 || k.dtype > C.HFR_FLOAT8E5M2 {
		return dst, src, fmt.Errorf("%w: %d is no hfr_dtype", hfreduce.ErrInvalid, int(k.dtype))
	}
	world := uint64(c.WorldSize())
	if uint64(k.count) > math.MaxInt64/8/world {
		return dst, src, fmt.Errorf("%w: %d elements of each of %d ranks", hfreduce.ErrInvalid, uint64(k.count), world)
	}
	sends, receives, send, recv := true, true, int(k.count), int(k.count)
	switch k.kind {
	case C.HFR_CALL_REDUCE:
		receives = int(k.root) == c.Rank()
	case C.HFR_CALL_BROADCAST:
		sends = int(k.root) == c.Rank()
	case C.HFR_CALL_REDUCE_SCATTER:
		send *= int(world)
	case C.HFR_CALL_ALL_GATHER:
		recv *= int(world)
	}
	if sends {
		if src, err = buffer("send", &k.send, send, d, k.stream); err != nil {
			return dst, src, err
		}
	}
	if receives {
		dst, err = buffer("recv", &k.recv, recv, d, k.stream)
	}
	return dst, src, err
}

// buffer returns memory of C's. What C gives for no elements, or of a GPU, may be any number, such as 1, which Go's runtime takes
// for a fault where it finds it in a pointer: so only what is read becomes one.
func buffer(name string, p *unsafe.Pointer, count int, d hfreduce.DataType, stream C.uint64_t) (hfreduce.Buffer, error) {
	switch {
	case count == 0:
		return hfreduce.Bytes(nil, d), nil
	case uintptr(*p) == 0:
		return hfreduce.Buffer{}, fmt.Errorf("%w: %s is NULL", hfreduce.ErrInvalid, name)
	case stream == C.HFR_CALL_HOST:
		return hfreduce.Bytes(unsafe.Slice((*byte)(*p), count*d.Size()), d), nil
	}
	return hfreduce.Device(cuda.Ptr(uintptr(*p)), count, d, cuda.Stream(stream)), nil
}
