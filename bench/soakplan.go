// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// soakPlan draws what the ranks of a communicator do. Equal seeds give equal plans.
type soakPlan struct {
	random   *rand.Rand
	ranks    int
	maxBytes int64
}

// burst is some calls in a row, all started before the first is waited for if async.
type burst struct {
	calls  []soakCall
	async  bool
	pauser int           // the rank that comes late
	pause  time.Duration // by so much, mostly 0
	split  *soakSplit    // not nil: before the calls the ranks form groups anew
}

// soakCall is one call.
type soakCall struct {
	collective Collective
	dtype      hfreduce.DataType
	op         Op
	root       int   // to be taken modulo the number of ranks
	count      int64 // elements; of one block for ReduceScatter and AllGather
	unalign    int   // elements
	inPlace    bool
	registered bool // in memory of Alloc
	renew      bool // which is allocated anew
	group      bool // on the communicator of the rank's group
}

// soakSplit divides the ranks into groups.
type soakSplit struct {
	divide, modulo int // the group of a rank is rank/divide%modulo
	without        int // a rank that is in none, -1: all are in one
	backwards      bool
}

const (
	maxBurst     = 4
	maxPause     = 3 * time.Millisecond
	soakUnalign  = 7
	soakPeriod   = 1021 // of patterns: a prime number, and short, for there are many patterns
	roundBursts  = 8    // after so many bursts the ranks agree whether to go on
	firstSplitAt = 2
	splitEvery   = 64
)

// newSoakPlan returns the plan of a communicator of so many ranks, the epoch-th since the start.
func newSoakPlan(seed uint64, epoch, ranks int, maxBytes int64) *soakPlan {
	return &soakPlan{rand.New(rand.NewPCG(seed, uint64(epoch))), ranks, maxBytes}
}

// one reports true once in n times.
func (p *soakPlan) one(n int) bool { return p.random.IntN(n) == 0 }

// burst draws the n-th burst.
func (p *soakPlan) burst(n int) burst {
	b := burst{calls: make([]soakCall, 1+p.random.IntN(maxBurst)), async: !p.one(3), pauser: p.random.IntN(p.ranks)}
	if p.one(8) {
		b.pause = time.Duration(p.random.Int64N(int64(maxPause)))
	}
	if n%splitEvery == firstSplitAt {
		b.split = p.split()
	}
	for i := range b.calls {
		b.calls[i] = p.call(n > firstSplitAt)
	}
	return b
}

func (p *soakPlan) split() *soakSplit {
	s := &soakSplit{divide: 1 + p.random.IntN(2), modulo: 1 + p.random.IntN(3), without: -1, backwards: p.one(2)}
	if p.ranks > 1 && p.one(3) {
		s.without = p.random.IntN(p.ranks)
	}
	return s
}

// place returns what a rank gives to Split.
func (s *soakSplit) place(rank int) (color, key int) {
	color, key = rank/s.divide%s.modulo, rank
	if rank == s.without {
		color = -1
	}
	if s.backwards {
		key = -rank
	}
	return color, key
}

// call draws a call.
func (p *soakPlan) call(groups bool) soakCall {
	all, types, ops := Collectives(), hfreduce.DataTypes(), Ops()
	c := soakCall{
		collective: all[p.random.IntN(len(all))], dtype: types[p.random.IntN(len(types))], op: ops[p.random.IntN(len(ops))],
		root: p.random.IntN(1 << 20), unalign: p.random.IntN(soakUnalign + 1),
		inPlace: p.one(2), registered: p.one(2), renew: p.one(16), group: p.one(4) && groups,
	}
	if c.unalign > 3 {
		c.unalign = 0 // as buffers are, mostly
	}
	most := p.maxBytes / int64(c.dtype.Size())
	switch c.collective {
	case ReduceScatter, AllGather:
		most /= int64(p.ranks)
	}
	if !c.collective.reduces() {
		c.op = None
	}
	c.count = p.count(most)
	return c
}

// count draws a number of elements: none and one each in a tenth of all draws, else one of any magnitude, odd in half of
// them.
func (p *soakPlan) count(most int64) int64 {
	switch n := p.random.IntN(10); {
	case n < 2:
		return min(int64(n), most)
	}
	n := int64(math.Exp2(p.random.Float64() * math.Log2(float64(most+1))))
	if p.one(2) {
		n |= 1
	}
	return min(n, most)
}

// test returns the test that a call is in a group of ranks.
func (c *soakCall) test(ranks int) test {
	t := test{collective: c.collective, dtype: c.dtype, op: c.op, root: -1}
	if c.collective.rooted() {
		t.root = c.root % ranks
	}
	return t
}

// shape returns the call's shape.
func (c *soakCall) shape(ranks int) shape {
	n, all := c.count, c.count*int64(ranks)
	switch c.collective {
	case ReduceScatter:
		return shape{send: all, recv: n, count: n, recvAt: n}
	case AllGather:
		return shape{send: n, recv: all, count: n, sendAt: n}
	case Barrier:
		return shape{}
	}
	return shape{send: n, recv: n, count: n}
}
