// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"

	. "github.com/mmcloughlin/avo/operand"
)

// wide reports whether the elements of a side are wider than those of the other one.
func (k *kernel) wide(s side) bool { return s.element > min(k.src.element, k.dst.element) }

// loadIotas loads, for every vector of a block, where its elements lie, counted in bytes of the narrower side: as bytes, or
// as doublewords for the wider side.
func (k *kernel) loadIotas() {
	for _, s := range []side{k.src, k.dst} {
		if k.iotas[s] != nil {
			continue
		}
		for v := range s.vectors {
			var content []byte
			if k.wide(s) {
				for i := range k.bytes / 4 {
					at := (v*k.bytes/4 + i) * min(k.src.element, k.dst.element)
					content = binary.LittleEndian.AppendUint32(content, uint32(at))
				}
			} else {
				for i := range k.bytes {
					content = append(content, byte(i))
				}
			}
			k.iotas[s] = append(k.iotas[s], pool.add(content))
		}
	}
}

// loadMasks computes which elements of the block at hand exist: those before the end. The distance to it, at, is less than a
// step and so fits in a byte.
func (k *kernel) loadMasks() {
	clear(k.masks)
	for _, s := range []side{k.src, k.dst} {
		if k.masks[s] != nil {
			continue
		}
		rest := k.v()
		zero := k.zero()
		if k.wide(s) {
			k.VPBROADCASTD(k.at.As32(), rest)
			k.VPSUBD(rest, zero, rest)
		} else {
			k.VPBROADCASTB(k.at.As32(), rest)
			k.VPSUBB(rest, zero, rest)
		}
		for v := range s.vectors {
			m, iota := k.K(), k.reg(k.iotas[s][v])
			if k.wide(s) {
				k.VPCMPUD(U8(1), rest, iota, m)
			} else {
				k.VPCMPUB(U8(1), rest, iota, m)
			}
			k.masks[s] = append(k.masks[s], m)
		}
	}
}
