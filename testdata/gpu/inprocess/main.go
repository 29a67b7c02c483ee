// SPDX-License-Identifier: Apache-2.0

// Command inprocess is a shared library that runs allreduces on GPU memory, for ever, in somebody else's process: beside the
// kernels of a program that loads it, such as gemm.py, in its CUDA context. Separate processes would share the GPU by turns.
//
//	go build -buildmode=c-shared -o libinprocess.so ./testdata/gpu/inprocess
//
// It is in testdata so that `go build ./...` does not see it.
package main

/*
#include <stdint.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"sync"
	"unsafe"

	"github.com/hfreduce/hfreduce/cuda"
	"github.com/hfreduce/hfreduce/hfreduce"
)

// load is what start made and stop ends.
type load struct {
	mu      sync.Mutex
	running *world
	problem error
	text    *C.char // of problem, in C's memory
}

// A library with C functions has no other place for its state.
var state load

// start begins: ranks on this one node, spread over the GPUs, sum a buffer of so many bytes each, of NCCL's type number
// dtype. It returns when the first collective is done: 0, or 1 if something went wrong, of which problem tells more.
//
//export start
func start(ranks C.int, bytes C.int64_t, dtype C.int) C.int {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.running != nil {
		return state.fail(errors.New("inprocess: start without stop"))
	}
	w, err := newWorld(int(ranks), int64(bytes), hfreduce.DataType(dtype))
	if err != nil {
		return state.fail(err)
	}
	state.running = w
	return state.fail(nil)
}

// stop waits for the collectives that were started and gives everything back: 0, or 1 if anything failed since start.
//
//export stop
func stop() C.int {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.running == nil {
		return state.fail(errors.New("inprocess: stop without start"))
	}
	err := state.running.end()
	state.running = nil
	return state.fail(err)
}

// calls returns how many collectives have been done since start, on the rank that is last.
//
//export calls
func calls() C.int64_t {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.running == nil {
		return 0
	}
	return C.int64_t(state.running.done())
}

// problem returns what went wrong in the last call of start or stop, "" for nothing; valid until the next of these.
//
//export problem
func problem() *C.char {
	state.mu.Lock()
	defer state.mu.Unlock()
	text := ""
	if state.problem != nil {
		text = state.problem.Error()
	}
	return state.say(text)
}

// library says which CUDA is used; valid as long as problem's text.
//
//export library
func library() *C.char {
	state.mu.Lock()
	defer state.mu.Unlock()
	return state.say(cuda.Library())
}

// fail keeps an error and returns the code for it.
func (l *load) fail(err error) C.int {
	l.problem = err
	if err != nil {
		return 1
	}
	return 0
}

// say puts text where C can read it.
func (l *load) say(text string) *C.char {
	C.free(unsafe.Pointer(l.text))
	l.text = C.CString(text)
	return l.text
}

func main() {}
