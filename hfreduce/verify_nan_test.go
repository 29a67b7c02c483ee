// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

// valueOf returns the number that an element is, 0 for integers.
func valueOf(d DataType, b []byte) float64 {
	switch d {
	case TypeFloat16:
		return float64(Float16(binary.NativeEndian.Uint16(b)).Float32())
	case TypeBFloat16:
		return float64(BFloat16(binary.NativeEndian.Uint16(b)).Float32())
	case TypeFloat32:
		return float64(math.Float32frombits(binary.NativeEndian.Uint32(b)))
	case TypeFloat64:
		return math.Float64frombits(binary.NativeEndian.Uint64(b))
	case TypeFloat8E4M3:
		return float64(Float8E4M3(b[0]).Float32())
	case TypeFloat8E5M2:
		return float64(Float8E5M2(b[0]).Float32())
	}
	return 0
}

// TestHashOfNaNs: whatever NaN takes the place of a NaN, the hash is the same. All else is seen, at the ends of blocks too.
func TestHashOfNaNs(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, d := range DataTypes() {
		size, none := d.Size(), (&call{signature: signature{kind: schedule.AllReduce, dtype: d}}).nan()
		b := make([]byte, 2*hashBlock+3*size)
		draw := func(at int) (isNaN bool) { // an element of any bits, one in two of those that NaNs may have
			for i := range size {
				b[at+i] = byte(rng.Uint32())
			}
			if rng.IntN(2) == 0 {
				b[at+size-1] |= 0x7f
				if size > 1 {
					b[at+size-2] |= 0xf0
				}
			}
			return math.IsNaN(valueOf(d, b[at:]))
		}
		for range 200 {
			for at := 0; at < len(b); at += size {
				draw(at)
			}
			if !d.float() && resultHash(b, none) != resultHash(b, nan{}) {
				t.Fatalf("%v: integers have NaNs", d)
			}
			before, count := resultHash(b, none), len(b)/size
			at := size * [...]int{0, 1, hashBlock/size - 1, hashBlock / size, count - 3, count - 2, count - 1, rng.IntN(count)}[rng.IntN(8)]
			old, was := bytes.Clone(b[at:at+size]), math.IsNaN(valueOf(d, b[at:]))
			is := draw(at)
			same := was && is || bytes.Equal(old, b[at:at+size])
			if (resultHash(b, none) == before) != same {
				t.Fatalf("%v, element %d of %d: %x, then %x, which should count as the same: %t", d, at/size, count, old, b[at:at+size], same)
			}
		}
	}
	for kind := range schedule.Barrier {
		if none := (&call{signature: signature{kind: kind, dtype: TypeFloat32}}).nan(); (none != nan{}) != (kind == schedule.AllReduce) {
			t.Errorf("%v: what is only copied keeps its bits, and must", kind)
		}
	}
}

// roleNaN reduces numbers of which some are none, of other payloads on each rank.
func roleNaN(ctx context.Context, c *Comm) error {
	for _, count := range []int{16, 300_000} {
		for _, op := range []Op{Sum, Min, Max} {
			x := make([]float32, count)
			x[count/2] = math.Float32frombits(0x7fc00000 | uint32(c.Rank())<<31)
			if err := c.AllReduce(ctx, Host(x), Host(x), op); err != nil {
				return err
			}
			if v := x[count/2]; v == v {
				return fmt.Errorf("%v of %d elements: NaN became %v", op, count, v)
			}
		}
	}
	return nil
}

// TestNaNsOfOtherProcessors: where two nodes compute other NaNs, as on processors that are not alike, no result counts as corrupt.
func TestNaNsOfOtherProcessors(t *testing.T) {
	children := spawnWith(t, "nan", []int{0, 1}, func(rank int) []string {
		all := kernel.Backends()
		return []string{"HFREDUCE_VERIFY_RESULTS=1", kernel.Environment + "=" + all[rank*(len(all)-1)].String()}
	})
	for r, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("rank %d: %v: %s", r, err, c.out.String())
		}
	}
}
