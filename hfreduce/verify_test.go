// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/cuda"
)

// TestResultsThatDiffer flips a bit on a way that only a part of the ranks' results come: all ranks get ErrCorrupt, which names
// those of the minority, or all if there is none.
func TestResultsThatDiffer(t *testing.T) {
	t.Setenv("HFREDUCE_CHECKSUM", "") // else the bit is found before there is a result
	const count = 13_440              // divides into as many blocks as there are ranks
	calls := map[string]func(c *Comm, dst []int32) error{
		"Broadcast": func(c *Comm, dst []int32) error { return c.Broadcast(context.Background(), Host(dst), Host(dst), 0) },
		"AllGather": func(c *Comm, dst []int32) error {
			n := count / c.WorldSize()
			return c.AllGather(context.Background(), Host(dst), Host(dst[c.Rank()*n:][:n]))
		},
		"AllReduce": func(c *Comm, dst []int32) error { // an exchange: who gets a wrong part of it is alone
			return c.AllReduce(context.Background(), Host(dst), Host(dst), Sum)
		},
	}
	for _, layout := range []string{"2x1", "3x1", "2x2", "strided", "4x2"} {
		for name, call := range calls {
			if name == "AllReduce" && layout != "2x1" && layout != "2x2" {
				continue
			}
			t.Run(layout+"/"+name, func(t *testing.T) {
				comms, f := flippingWorld(t, layouts[layout], Options{ChunkBytes: 8192, VerifyResults: true}, false)
				results := make([][]int32, len(comms))
				fill := func(c *Comm) error {
					results[c.Rank()] = make([]int32, count)
					for i := range results[c.Rank()] {
						results[c.Rank()][i] = int32(i * (c.Rank() + 1))
					}
					return nil
				}
				each(t, comms, fill)
				each(t, comms, func(c *Comm) error { return call(c, results[c.Rank()]) })
				each(t, comms, fill)
				f.arm(2) // later ones may carry the hashes
				failTogether(t, comms, ErrCorrupt, "results differ", func(c *Comm) error { return call(c, results[c.Rank()]) })
				checkNamed(t, comms, results)
			})
		}
	}
}

// checkNamed compares what the ranks were told with what they hold.
func checkNamed(t *testing.T, comms []*Comm, results [][]int32) {
	t.Helper()
	d := &disagreement{}
	for _, r := range results {
		d.hashes = append(d.hashes, resultHash(Host(r).raw(), nan{}))
	}
	all := d.groups()
	if len(all) < 2 {
		t.Fatal("all ranks hold the same")
	}
	if 2*len(all[0].ranks) > len(comms) {
		all = all[1:]
	}
	for _, c := range comms {
		cause := (*c.cause.Load()).Error()
		for _, h := range all {
			if ranks, _, _ := strings.Cut(h.String(), " with"); !strings.Contains(cause, ranks+" with hash") {
				t.Errorf("rank %d was told %v, which does not name %s", c.Rank(), cause, ranks)
			}
		}
	}
}

func TestDisagreementText(t *testing.T) {
	many := make([]uint64, 60)
	for i := range many {
		many[i] = uint64(i % 30)
	}
	for _, tt := range []struct {
		hashes []uint64
		want   string
	}{
		{[]uint64{5, 5, 0xabc, 5}, "the ranks' results differ from that of the majority (3 of 4 ranks, hash 0000000000000005): rank 2 with hash 0000000000000abc"},
		{[]uint64{1, 2}, "the ranks' results differ, and no result is that of a majority: rank 0 with hash 0000000000000001; rank 1 with hash 0000000000000002"},
		{[]uint64{1, 2, 2, 1}, "the ranks' results differ, and no result is that of a majority: ranks 0 3 with hash 0000000000000001; ranks 1 2 with hash 0000000000000002"},
		{[]uint64{1, 2, 3, 1, 1, 1, 2}, "the ranks' results differ from that of the majority (4 of 7 ranks, hash 0000000000000001): ranks 1 6 with hash 0000000000000002; rank 2 with hash 0000000000000003"},
	} {
		if got := (&disagreement{tt.hashes}).Error(); got != tt.want {
			t.Errorf("%v:\n got %s\nwant %s", tt.hashes, got, tt.want)
		}
	}
	if got := (&disagreement{many}).Error(); !strings.HasSuffix(got, "; 22 further results") {
		t.Errorf("of 30 results the text is %s", got)
	}
	for i := range many {
		many[i] = uint64(min(i/35, 1))
	}
	if got := (&disagreement{many}).Error(); !strings.Contains(got, "50 and 9 more with hash") {
		t.Errorf("of 25 ranks the text is %s", got)
	}
}

// TestResultHash: no single bit, no exchanged blocks and no length go unnoticed.
func TestResultHash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	b := random(TypeUint8, 3*hashBlock+100, 0, 9)
	seen := map[uint64]bool{resultHash(b, nan{}): true}
	note := func(what string, b []byte) {
		if h := resultHash(b, nan{}); seen[h] {
			t.Errorf("%s: the hash is that of other data", what)
		} else {
			seen[h] = true
		}
	}
	for range 200 {
		at, bit := rng.IntN(len(b)), rng.IntN(8)
		b[at] ^= 1 << bit
		note(fmt.Sprintf("bit %d of byte %d", bit, at), b)
		b[at] ^= 1 << bit
	}
	note("without the last byte", b[:len(b)-1])
	note("blocks exchanged", slices.Concat(b[hashBlock:2*hashBlock], b[:hashBlock], b[2*hashBlock:]))
	note("nothing", nil)
	note("a zero", []byte{0})
}

// TestVerifiedResultsAndDevices: results on a GPU are refused, and the rest goes on between calls with GPUs, also where the
// comparison takes numbers that the GPU's work is planned with.
func TestVerifiedResultsAndDevices(t *testing.T) {
	const d = TypeInt32
	for layout, count := range map[string]int{"1x4": 100, "2x1": 100, "2x2": 30_000, "3x1": 30_000, "5on2": 30_000} {
		t.Run(layout, func(t *testing.T) {
			nodeOf := layouts[layout]
			o := smallDeviceChunks
			o.VerifyResults, o.Timeout = true, 10*time.Second
			comms, gpus := newGPUWorld(t, nodeOf, o)
			in := inputs(d, count, len(comms), 5)
			each(t, comms, func(c *Comm) error {
				ctx, g := t.Context(), gpus[c.Rank()]
				p, err := g.put(in[c.Rank()])
				if err != nil {
					return err
				}
				device := Device(p, count, d, g.stream)
				for name, err := range map[string]error{
					"AllReduce": c.AllReduce(ctx, device, device, Sum), "Broadcast": c.Broadcast(ctx, device, device, 0),
				} {
					if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "VerifyResults") {
						return fmt.Errorf("%s: %v, want ErrNotSupported for VerifyResults", name, err)
					}
				}
				return mixVerified(ctx, c, g, p, in)
			})
		})
	}
}

// mixVerified reduces on GPUs, and from GPUs into host memory, one after the other.
func mixVerified(ctx context.Context, c *Comm, g *gpuRank, p cuda.Ptr, in [][]byte) error {
	const d = TypeInt32 // whose sums are the same in any order
	device := Device(p, len(in[0])/4, d, g.stream)
	sums := make([]byte, len(in[0]))
	for i := range 4 {
		if err := c.AllReduce(ctx, Bytes(sums, d), device, Sum); err != nil {
			return err
		}
		if err := c.Reduce(ctx, device, Bytes(in[c.Rank()], d), Sum, i%c.WorldSize()); err != nil {
			return err
		}
		if c.Rank() == i%c.WorldSize() {
			got, err := g.get(p, len(in[0]))
			if err != nil {
				return err
			}
			if i == 0 { // the inputs were the same
				if err := same("sum on the GPU", got, sums); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
