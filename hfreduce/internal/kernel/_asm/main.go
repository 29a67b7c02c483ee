// SPDX-License-Identifier: Apache-2.0

// Command _asm writes the assembly of package kernel, into the folder above or the one given. It is a module of its own so
// that those who use the library need not load what it needs.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

func main() {
	log.SetFlags(0)
	folder := ".."
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	files, err := generate()
	check(err)
	for name, content := range files {
		check(os.WriteFile(filepath.Join(folder, name), content, 0o644))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal("_asm: ", err)
	}
}

const (
	licence   = "// SPDX-License-Identifier: Apache-2.0\n\n"
	generator = "command: go generate"
)

// requirements lists what kernels of an instruction set may need; kernel.Backend.Available tests for it. Byte permutations
// are an exception that the generated needsVBMI tells of.
var requirements = map[isa][]string{
	avx2:   {"MMX+", "AVX", "AVX2", "F16C", "FMA3"},
	avx512: {"MMX+", "AVX", "AVX2", "F16C", "FMA3", "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", vbmi, bf16},
}

const vbmi = "AVX512VBMI"

// generate returns the contents of all files by name.
func generate() (map[string][]byte, error) {
	files := map[string][]byte{}
	stubs := ir.NewFile()
	permuting := map[string]bool{}
	add := func(name string, file *ir.File) error {
		text, err := printer.NewGoAsm(printer.Config{Name: generator, Pkg: "kernel"}).Print(file)
		files[name+"_amd64.s"] = append([]byte(licence), text...)
		for _, fn := range file.Functions() {
			stubs.AddSection(fn)
		}
		return err
	}
	file, err := assemble(func(ctx *build.Context) { exchangeMXCSR(ctx); standardEnvironment(ctx) })
	if err := errors.Join(err, add("environment", file)); err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	for _, i := range []isa{avx2, avx512} {
		for _, family := range families() {
			if !slices.Contains(family.isas, i) {
				continue
			}
			file, err := assemble(func(ctx *build.Context) { family.write(ctx, i) })
			if err == nil {
				err = add(family.file+"_"+strings.ToLower(i.name), file)
			}
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", family.name, i.name, err)
			}
			for _, fn := range file.Functions() {
				for _, need := range fn.ISA {
					if !slices.Contains(requirements[i], need) {
						return nil, fmt.Errorf("%s needs %s", fn.Name, need)
					}
					if need == vbmi {
						permuting[strings.TrimSuffix(fn.Name, i.name)] = true
					}
				}
			}
		}
	}
	text, err := printer.NewStubs(printer.Config{Name: generator, Pkg: "kernel"}).Print(stubs)
	if err != nil {
		return nil, err
	}
	files["kernels_amd64.go"] = slices.Concat([]byte(licence), bytes.TrimSpace(text), []byte("\n"), dispatch(permuting))
	return files, nil
}

// assemble returns what write writes, with registers in place.
func assemble(write func(*build.Context)) (*ir.File, error) {
	ctx := build.NewContext()
	write(ctx)
	file, err := ctx.Result()
	if err != nil {
		return nil, err
	}
	return file, pass.Concat(pass.Compile, pass.FunctionPass(encodeUnknown)).Execute(file)
}

// write writes the functions of a family for an instruction set.
func (f *family) write(ctx *build.Context, i isa) {
	pool = &constants{ctx: ctx, seen: map[string]Mem{}}
	for _, s := range f.kernels {
		s.write(&function{Context: ctx, isa: i, consts: map[string]Op{}})
	}
}
