// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// The floating-point environment is a thread's: a program may round in another direction, take subnormal numbers as zero
// (PyTorch's set_flush_denormal does) or have exceptions raise signals, and its threads come here with that. Kernels compute
// in the standard environment, so that sums do not depend on who calls.

const (
	standardMXCSR = 0x1f80 // to nearest even, subnormal numbers kept, no exception raises a signal
	statusMXCSR   = 0x003f // what has happened, which does not matter
)

// computesFloats reports whether the kernel depends on the environment.
func (k *kernel) computesFloats() bool {
	switch c := k.codec.(type) {
	case native:
		return c.lane == f32 || c.lane == f64
	case narrow, pairs:
		return true
	}
	return false
}

// enterEnvironment sets the standard environment unless it is there, which is the usual case and cheaper to find out.
func (k *kernel) enterEnvironment() {
	k.environment = k.AllocLocal(8)
	standard, is := k.environment.Offset(4), k.GP32()
	k.VSTMXCSR(k.environment)
	k.MOVL(k.environment, is)
	k.ANDL(U32(0xffff&^statusMXCSR), is)
	k.CMPL(is, U32(standardMXCSR))
	k.JE(LabelRef("standard"))
	k.MOVL(U32(standardMXCSR), standard)
	k.VLDMXCSR(standard)
	k.ORL(U32(modeRestore), k.mode.As32())
	k.Label("standard")
}

// leaveEnvironment sets the thread's environment again.
func (k *kernel) leaveEnvironment() {
	k.TESTL(U32(modeRestore), k.mode.As32())
	k.JZ(LabelRef("restored"))
	k.VLDMXCSR(k.environment)
	k.Label("restored")
}

// exchangeMXCSR writes the function by which tests change the environment.
func exchangeMXCSR(ctx *build.Context) {
	ctx.Function("exchangeMXCSR")
	ctx.Attributes(attr.NOSPLIT)
	ctx.SignatureExpr("func(mxcsr uint32) (before uint32)")
	ctx.Doc("exchangeMXCSR sets the floating-point environment of this thread and returns what it was. It is for tests.")
	mxcsr, before := ctx.AllocLocal(8), ctx.GP32()
	ctx.VSTMXCSR(mxcsr)
	ctx.MOVL(mxcsr, before)
	ctx.Store(before, ctx.ReturnIndex(0))
	ctx.Load(ctx.Param("mxcsr"), before)
	ctx.MOVL(before, mxcsr)
	ctx.VLDMXCSR(mxcsr)
	ctx.RET()
}

// standardEnvironment writes the function by which Go code finds out whether it computes as kernels do.
func standardEnvironment(ctx *build.Context) {
	ctx.Function("standardEnvironment")
	ctx.Attributes(attr.NOSPLIT)
	ctx.SignatureExpr("func() bool")
	ctx.Doc("standardEnvironment reports whether the floating-point environment of this thread is the one that kernels compute in.")
	mxcsr, is, same := ctx.AllocLocal(8), ctx.GP32(), ctx.GP8()
	ctx.STMXCSR(mxcsr)
	ctx.MOVL(mxcsr, is)
	ctx.ANDL(U32(0xffff&^statusMXCSR), is)
	ctx.CMPL(is, U32(standardMXCSR))
	ctx.SETEQ(same)
	ctx.Store(same, ctx.ReturnIndex(0))
	ctx.RET()
}
