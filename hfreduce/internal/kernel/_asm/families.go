// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	gofmt "go/format"
	"slices"
	"strings"
)

// family is a group of kernels that differ in the element type; each has files of its own.
type family struct {
	name, file, doc string // name in identifiers
	isas            []isa
	kernels         []spec
	types           [][]string // of each kernel, the names of the types it serves
}

func (f *family) add(suffix string, k spec, types ...string) {
	k.name, k.doc = f.file+suffix, f.doc
	f.kernels, f.types = append(f.kernels, k), append(f.types, types)
}

// floats lists the formats that accumulate in float32, with the blocks of a step of the main loop.
var floats = []struct {
	name   string
	format format
	unroll int
}{
	{"Float16", float16{}, 4},
	{"BFloat16", bfloat16{}, 2},
	{"Float8E4M3", float8E4M3, 2},
	{"Float8E5M2", float8E5M2, 2},
}

func families() []*family {
	all := []*family{
		arithmetic(&family{name: "Sum", file: "sum", doc: "adds, and divides floating-point sums."}, native{op: sum}, false),
		arithmetic(&family{name: "Scaled", file: "scaled", doc: "adds multiples of the sources, and divides floating-point sums."}, native{op: sum}, true),
		arithmetic(&family{name: "Prod", file: "prod", doc: "multiplies."}, native{op: prod}, false),
		wide(&family{name: "Widen", file: "widen", doc: "adds, and leaves float32."}, narrow{op: sum, wideOut: true}),
		wide(&family{name: "Narrow", file: "narrow", doc: "adds float32 and rounds."}, narrow{op: sum, wideIn: true}),
		ordering(&family{name: "Max", file: "max", doc: "takes the maximum."}, maximum),
		paired(&family{name: "Paired", file: "paired", doc: "adds two sources at a time.", isas: []isa{avx512}}),
		ordering(&family{name: "Min", file: "min", doc: "takes the minimum."}, minimum),
	}
	for _, f := range all {
		if f.isas == nil {
			f.isas = []isa{avx2, avx512}
		}
	}
	return all
}

// arithmetic lists the sums or products of all types; where two types differ in nothing but their sign, they share one.
func arithmetic(f *family, c native, scaled bool) *family {
	of := func(l lane) native { return native{l, c.op} }
	divides := c.op == sum
	f.add("Float32", spec{codec: of(f32), unroll: 4, scaled: scaled, divides: divides}, "Float32")
	f.add("Float64", spec{codec: of(f64), unroll: 4, scaled: scaled, divides: divides}, "Float64")
	for _, t := range floats {
		f.add(t.name, spec{codec: narrow{format: t.format, op: c.op, scaled: scaled}, unroll: t.unroll, scaled: scaled, divides: divides}, t.name)
	}
	if c.op == prod || scaled {
		f.add("Int8", spec{codec: bytePairs{c.op}, unroll: 2, scaled: scaled}, "Int8", "Uint8")
	} else {
		f.add("Int8", spec{codec: of(i8), unroll: 4}, "Int8", "Uint8")
	}
	f.add("Int32", spec{codec: of(i32), unroll: 4, scaled: scaled}, "Int32", "Uint32")
	f.add("Int64", spec{codec: of(i64), unroll: 4, scaled: scaled}, "Int64", "Uint64")
	return f
}

// wide lists the sums from or to float32.
func wide(f *family, c narrow) *family {
	for _, t := range floats {
		c.format = t.format
		f.add(t.name, spec{codec: c, unroll: 1, divides: true}, t.name)
	}
	return f
}

// paired lists the sums of float8.
func paired(f *family) *family {
	for _, t := range []struct {
		name   string
		format format
	}{{"Float8E4M3", float8E4M3}, {"Float8E5M2", float8E5M2}} {
		f.add(t.name, spec{codec: pairs{narrow{format: t.format, op: sum, paired: true}}, unroll: 2, divides: true}, t.name)
	}
	return f
}

// ordering lists the maxima or minima.
func ordering(f *family, o op) *family {
	for _, t := range []struct {
		name string
		c    order
	}{
		{"Float32", order{lane: i32, nans: 1<<23 - 1}},
		{"Float64", order{lane: i64, nans: 1<<52 - 1}},
		{"Float16", order{lane: i16, nans: 1<<10 - 1}},
		{"BFloat16", order{lane: i16, nans: 1<<7 - 1}},
		{"Float8E4M3", order{lane: i8, nans: 1}},
		{"Float8E5M2", order{lane: i8, nans: 1<<2 - 1}},
		{"Int8", order{lane: i8}},
		{"Uint8", order{lane: i8, unsigned: true}},
		{"Int32", order{lane: i32}},
		{"Uint32", order{lane: i32, unsigned: true}},
		{"Int64", order{lane: i64}},
		{"Uint64", order{lane: i64, unsigned: true}},
	} {
		t.c.op = o
		f.add(t.name, spec{codec: t.c, unroll: 4}, t.name)
	}
	return f
}

// dispatch returns Go code that calls the kernels. permuting names those that permute bytes with AVX-512.
func dispatch(permuting map[string]bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n// The assembly is for so many sources; another MaxSources does not compile.\nvar _ = [1]struct{}{}[MaxSources-%d]\n", maxSources)
	fmt.Fprint(&b, "\n// kernelID names a kernel of whatever instruction set.\ntype kernelID uint8\n\n// The kernels. noKernel stands for none.\nconst (\nnoKernel kernelID = iota\n")
	for _, f := range families() {
		for _, k := range f.kernels {
			fmt.Fprintf(&b, "%sID\n", k.name)
		}
	}
	fmt.Fprint(&b, ")\n\n// The families of kernels.\nconst (\n")
	for i, f := range families() {
		iota := ""
		if i == 0 {
			iota = "= iota"
		}
		fmt.Fprintf(&b, "family%s %s // %s\n", f.name, iota, f.doc)
	}
	fmt.Fprintf(&b, ")\n\n// The bits of a kernel's argument mode, above the number of sources.\nconst (\n"+
		"modeSpecial = %#x // any of the next three\nmodeStream = %#x // non-temporal stores to dst\nmodeSecond = %#x // there is a dst2\n"+
		"modeStream2 = %#x // non-temporal stores to dst2\nmodeMultiply = %#x // multiply the sum by the last factor\nmodeDivide = %#x // divide it by the last factor\n",
		modeSpecial, modeStream, modeSecond, modeStream2, modeMultiply, modeDivide)
	fmt.Fprintf(&b, ")\n\n// kernelIDs holds the kernel of a family for each element type. Read only.\nvar kernelIDs = [...][len(dtypes)]kernelID{\n")
	for _, f := range families() {
		fmt.Fprintf(&b, "family%s: {", f.name)
		for i, k := range f.kernels {
			for _, t := range f.types[i] {
				fmt.Fprintf(&b, "%s: %sID, ", t, k.name)
			}
		}
		fmt.Fprint(&b, "},\n")
	}
	fmt.Fprint(&b, "}\n")
	predicate(&b, "needsVBMI", "with AVX-512 needs AVX512_VBMI, too", func(k spec) bool { return permuting[k.name] })
	predicate(&b, "converts", "has elements that are not accumulators as they are", func(k spec) bool {
		switch k.codec.(type) {
		case narrow, pairs:
			return true
		}
		return false
	})
	for _, i := range []isa{avx2, avx512} {
		fmt.Fprintf(&b, "\n// call%s runs kernel id.\nfunc call%[1]s(id kernelID, dst, dst2 *byte, srcs **byte, factors *uint64, size, mode int) {\nswitch id {\n", i.name)
		for _, f := range families() {
			if !slices.Contains(f.isas, i) {
				continue
			}
			for _, k := range f.kernels {
				fmt.Fprintf(&b, "case %sID:\n%[1]s%s(dst, dst2, srcs, factors, size, mode)\n", k.name, i.name)
			}
		}
		fmt.Fprint(&b, "}\n}\n")
	}
	text, err := gofmt.Source(append([]byte("package p\n"), b.Bytes()...))
	check(err)
	return bytes.TrimPrefix(text, []byte("package p\n"))
}

// predicate writes a method that tells the kernels apart of which is is true.
func predicate(b *bytes.Buffer, name, doc string, is func(spec) bool) {
	var ids []string
	for _, f := range families() {
		for _, k := range f.kernels {
			if is(k) {
				ids = append(ids, k.name+"ID")
			}
		}
	}
	fmt.Fprintf(b, "\n// %s reports whether kernel id %s.\nfunc (id kernelID) %[1]s() bool {\nswitch id {\ncase %[3]s:\nreturn true\n}\nreturn false\n}\n",
		name, doc, strings.Join(ids, ",\n"))
}
