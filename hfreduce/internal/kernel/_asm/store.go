// SPDX-License-Identifier: Apache-2.0

package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// write stores to one or both outputs, in the manner that mode asks for.
func (k *kernel) write(out [][]vec, masked bool) {
	done := k.label("stored")
	if masked {
		k.store(k.dst1, out, k.storeMasked)
		k.TESTL(U32(modeSecond), k.mode.As32())
		k.JZ(LabelRef(done))
		k.store(k.dst2, out, k.storeMasked)
		k.Label(done)
		return
	}
	special := k.label("special")
	k.TESTL(U32(modeSpecial), k.mode.As32())
	k.JNZ(LabelRef(special))
	k.store(k.dst1, out, k.storePlain)
	k.Label(done)
	k.aside = append(k.aside, func() { k.writeSpecial(out, special, done) })
}

// writeSpecial writes what stands aside of the usual way: non-temporal stores, and a second output.
func (k *kernel) writeSpecial(out [][]vec, special, done string) {
	stream, second, stream2 := k.label("stream"), k.label("second"), k.label("stream2")
	k.Label(special)
	k.TESTL(U32(modeStream), k.mode.As32())
	k.JNZ(LabelRef(stream))
	k.store(k.dst1, out, k.storePlain)
	k.JMP(LabelRef(second))
	k.Label(stream)
	k.store(k.dst1, out, k.storeStream)
	k.Label(second)
	k.TESTL(U32(modeSecond), k.mode.As32())
	k.JZ(LabelRef(done))
	k.TESTL(U32(modeStream2), k.mode.As32())
	k.JNZ(LabelRef(stream2))
	k.store(k.dst2, out, k.storePlain)
	k.JMP(LabelRef(done))
	k.Label(stream2)
	k.store(k.dst2, out, k.storeStream)
	k.JMP(LabelRef(done))
}

// store stores every vector of out to the output that ends at end.
func (k *kernel) store(end reg.GPVirtual, out [][]vec, how func(v vec, i int, m Mem)) {
	for b := range out {
		for i, v := range out[b] {
			how(v, i, k.address(end, k.dstScale, (b*k.dst.vectors+i)*k.dst.bytes))
		}
	}
}

func (k *kernel) storePlain(v vec, _ int, m Mem) {
	if k.isa == avx512 {
		k.VMOVDQU64(v, m)
	} else {
		k.VMOVDQU(v, m)
	}
}

func (k *kernel) storeStream(v vec, _ int, m Mem) { k.VMOVNTDQ(v, m) }

func (k *kernel) storeMasked(v vec, i int, m Mem) {
	if k.wide(k.dst) {
		k.VMOVDQU32(v, k.masks[k.dst][i], m)
	} else {
		k.VMOVDQU8(v, k.masks[k.dst][i], m)
	}
}
