// SPDX-License-Identifier: Apache-2.0

package kernel

// fold writes d = op(x[0], ..., x[n-1]), element by element and from left to right. d may be one of x.
func fold[T number](op Op, d []T, x *[groupSources][]T, n int) {
	switch n {
	case 1:
		copy(d, x[0])
	case 2:
		fold2(op, d, x[0], x[1])
	case 3:
		fold3(op, d, x[0], x[1], x[2])
	default:
		fold4(op, d, x[0], x[1], x[2], x[3])
	}
}

// The loops below are written out for each operator and number of sources: an operator passed as a function or a method of a
// type parameter would be called for each element. The slices are cut to one length so that no index needs a check.

func fold2[T number](op Op, d, a, b []T) {
	a, b = a[:len(d)], b[:len(d)]
	switch op {
	case Sum:
		for i := range d {
			d[i] = a[i] + b[i]
		}
	case Prod:
		for i := range d {
			d[i] = a[i] * b[i]
		}
	case Max:
		for i := range d {
			d[i] = max(a[i], b[i])
		}
	case Min:
		for i := range d {
			d[i] = min(a[i], b[i])
		}
	}
}

func fold3[T number](op Op, d, a, b, c []T) {
	a, b, c = a[:len(d)], b[:len(d)], c[:len(d)]
	switch op {
	case Sum:
		for i := range d {
			d[i] = a[i] + b[i] + c[i]
		}
	case Prod:
		for i := range d {
			d[i] = a[i] * b[i] * c[i]
		}
	case Max:
		for i := range d {
			d[i] = max(a[i], b[i], c[i])
		}
	case Min:
		for i := range d {
			d[i] = min(a[i], b[i], c[i])
		}
	}
}

func fold4[T number](op Op, d, a, b, c, e []T) {
	a, b, c, e = a[:len(d)], b[:len(d)], c[:len(d)], e[:len(d)]
	switch op {
	case Sum:
		for i := range d {
			d[i] = a[i] + b[i] + c[i] + e[i]
		}
	case Prod:
		for i := range d {
			d[i] = a[i] * b[i] * c[i] * e[i]
		}
	case Max:
		for i := range d {
			d[i] = max(a[i], b[i], c[i], e[i])
		}
	case Min:
		for i := range d {
			d[i] = min(a[i], b[i], c[i], e[i])
		}
	}
}
