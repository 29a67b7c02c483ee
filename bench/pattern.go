// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// pattern chooses the inputs of all ranks for one data type and operator, and knows the result. Values depend on
// nothing but the rank and the element's index modulo period, so tests hold one period in memory and copy or compare
// from there. A period is a prime number of elements: no chunk, shard or block boundary, which are all multiples of 16
// bytes, is one of its multiples, so data in the wrong place differs from what belongs there.
//
// The values, where h(rank, i) is a hash and p the significant bits of a floating-point type:
//
//   - copied data (None), Min, Max: any bits; for Min and Max no NaN, infinity or negative zero;
//   - integers, Sum and MulSum: any bits, as sums modulo 2^bits need no order; factors are odd;
//   - integers, Prod: any odd number, as these products modulo 2^bits lose nothing;
//   - integers, Avg: small numbers that sum up without overflow;
//   - floats, Sum, Avg, MulSum: whole numbers whose sum over all ranks is at most 2^p, times a power of two that the
//     index chooses; where there are more ranks than that leaves room for, those whose turn it is at this index, the
//     others give 0. For MulSum that is the product; factors are powers of two. In averages only so many ranks take part
//     that what they give is mostly more than the tolerance;
//   - floats, Prod: powers of two with any sign, so few of which are not 1 that the exponent stays in range; one rank,
//     which the index chooses, gives some bits of mantissa.
//
// So every partial result, over any subset of the ranks, is exactly representable.
type pattern struct {
	dtype  hfreduce.DataType
	op     Op
	ranks  int
	period int
	key    uint64 // of the hash
	format
}

// tablePeriod is the period of patterns, in elements.
const tablePeriod = 8191

func newPattern(d hfreduce.DataType, op Op, ranks, period int) *pattern {
	return &pattern{dtype: d, op: op, ranks: ranks, period: period, key: mix(uint64(d)<<8 | uint64(op)), format: formatOf(d)}
}

// mulSumFactor returns the factor that a rank gives to MulSum: an odd number for integers, a power of two for floats.
func mulSumFactor(d hfreduce.DataType, rank int) float64 {
	f := formatOf(d)
	if !f.float {
		return float64(2*rank + 3)
	}
	return math.Ldexp(1, rank%f.factors-f.factors/4)
}

// mix is the finaliser of SplitMix64: every input bit changes every output bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash is h(rank, i) of this type and operator; rank -1 stands for what depends on the index alone.
func (p *pattern) hash(rank, i int) uint64 {
	return mix(p.key ^ mix(uint64(rank+1)<<32|uint64(i)))
}

// input returns the bits of a rank's element.
func (p *pattern) input(rank, i int) uint64 {
	switch {
	case p.op == None:
		return p.hash(rank, i) & p.mask()
	case p.op == Min || p.op == Max:
		return p.extreme(rank, i)
	case p.float:
		return encode(p.dtype, p.number(rank, i))
	case p.op == Prod:
		return (p.hash(rank, i) | 1) & p.mask()
	case p.op == Avg:
		return p.term(rank, i, uint64(1)<<(p.bits-1)-1)
	}
	return p.hash(rank, i) & p.mask()
}

func (p *pattern) mask() uint64 { return math.MaxUint64 >> (64 - p.bits) }

// number returns a rank's element for operators that calculate with floats.
func (p *pattern) number(rank, i int) float64 {
	switch p.op {
	case Prod:
		return p.powerOfTwo(rank, i)
	case MulSum:
		return p.summand(rank, i) / mulSumFactor(p.dtype, rank)
	}
	return p.summand(rank, i)
}

// summand returns a rank's part of a floating-point sum.
func (p *pattern) summand(rank, i int) float64 {
	return float64(p.term(rank, i, 1<<p.precision)) * float64(uint64(1)<<(p.hash(-1, i)>>60&3))
}

// term returns a rank's part of a sum of whole numbers that stays within budget over all ranks. At most half as many
// ranks as the budget has units take part, so that there is a choice of at least two values for each. In averages of floats it
// is an eighth, at least two: a unit may be as little as half a unit in the last place of the average, and the tolerance is two.
func (p *pattern) term(rank, i int, budget uint64) uint64 {
	limit := int(min(budget/2, math.MaxInt32))
	if p.op == Avg && p.float {
		limit = max(2, limit/4)
	}
	turns, ok := p.turn(rank, i, limit)
	if !ok {
		return 0
	}
	members := (p.ranks + turns - 1) / turns
	return 1 + p.hash(rank, i)%(budget/uint64(members))
}

// turn divides the ranks into as few sets of at most limit members as it can, and reports how many sets these are and
// whether rank is in the one whose turn it is at this index.
func (p *pattern) turn(rank, i, limit int) (turns int, ok bool) {
	turns = (p.ranks + limit - 1) / limit
	return turns, (rank+int(p.hash(-1, i)>>33))%turns == 0
}

// powerOfTwo returns a rank's factor of a floating-point product.
func (p *pattern) powerOfTwo(rank, i int) float64 {
	h := p.hash(rank, i)
	v := 1.0
	if h&1 == 1 {
		v = -1
	}
	if _, ok := p.turn(rank, i, p.exponents); ok {
		v = math.Ldexp(v, int(h>>1&1)*2-1)
	}
	if int(p.hash(-1, i)>>33)%p.ranks == rank {
		v *= 1 + float64(h>>2&3)/4
	}
	return v
}

// extreme returns any number but NaN, infinities and negative zero, which compare in ways of their own.
func (p *pattern) extreme(rank, i int) uint64 {
	bits := p.hash(rank, i) & p.mask()
	if !p.float {
		return bits
	}
	if v := decode(p.dtype, bits); math.IsNaN(v) || math.IsInf(v, 0) || v == 0 {
		return encode(p.dtype, float64(rank%4+1))
	}
	return bits
}
