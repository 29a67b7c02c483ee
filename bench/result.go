// SPDX-License-Identifier: Apache-2.0

package bench

// result returns the bits of the reduction over all ranks at one index.
func (p *pattern) result(i int) uint64 {
	switch {
	case p.op == Min || p.op == Max:
		return p.extremeOfAll(i)
	case p.float && p.op == Prod:
		return p.product(i)
	case p.float:
		return p.floatSum(i)
	case p.op == Prod:
		v := uint64(1)
		for rank := range p.ranks {
			v *= p.input(rank, i)
		}
		return v & p.mask()
	}
	return p.integerSum(i)
}

// integerSum returns the sum modulo 2^bits; averages round towards zero and their inputs do not overflow.
func (p *pattern) integerSum(i int) uint64 {
	sum := uint64(0)
	for rank := range p.ranks {
		v := p.input(rank, i)
		if p.op == MulSum {
			v *= uint64(mulSumFactor(p.dtype, rank))
		}
		sum += v
	}
	if p.op == Avg {
		sum /= uint64(p.ranks)
	}
	return sum & p.mask()
}

func (p *pattern) product(i int) uint64 {
	v := 1.0
	for rank := range p.ranks {
		v *= p.powerOfTwo(rank, i)
	}
	return encode(p.dtype, v)
}

// floatSum returns the sum, which is exact, or the average, which is rounded once more.
func (p *pattern) floatSum(i int) uint64 {
	sum := 0.0
	for rank := range p.ranks {
		sum += p.summand(rank, i)
	}
	switch {
	case p.op != Avg:
		return encode(p.dtype, sum)
	case p.bits == 64:
		return encode(p.dtype, sum/float64(p.ranks))
	}
	return encode(p.dtype, float64(float32(sum)/float32(p.ranks)))
}

func (p *pattern) extremeOfAll(i int) uint64 {
	best := p.input(0, i)
	for rank := 1; rank < p.ranks; rank++ {
		if v := p.input(rank, i); p.less(best, v) == (p.op == Max) {
			best = v
		}
	}
	return best
}

// less compares two elements by their bits.
func (p *pattern) less(a, b uint64) bool {
	switch {
	case p.float:
		return decode(p.dtype, a) < decode(p.dtype, b)
	case p.signed:
		shift := 64 - p.bits
		return int64(a<<shift) < int64(b<<shift)
	}
	return a < b
}

// tolerance returns by how many units in the last place a result may differ.
func (p *pattern) tolerance() uint64 {
	if p.float && p.op == Avg {
		return 2
	}
	return 0
}
