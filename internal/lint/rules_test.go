// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"strings"
	"testing"
)

// example is a small tree, the rule that looks at it and what it must find: nothing, or one finding that says want.
type example struct {
	name string
	path string
	text string
	rule func([]*file) []string
	want string
}

func (e example) run(t *testing.T) {
	f, err := parse(e.path, e.text)
	if err != nil {
		t.Fatal(err)
	}
	found := e.rule([]*file{f})
	switch {
	case e.want == "" && len(found) > 0:
		t.Errorf("found in good code: %q", found)
	case e.want != "" && len(found) != 1:
		t.Errorf("found %q, want one finding with %q", found, e.want)
	case e.want != "" && !strings.Contains(found[0], e.want):
		t.Errorf("%q does not say %q", found[0], e.want)
	}
}

// TestRules shows each rule what it must find and what it must let pass.
func TestRules(t *testing.T) {
	for _, examples := range [][]example{directionExamples(), limitExamples(), pureExamples(), codeExamples(), docExamples(), textExamples()} {
		for _, e := range examples {
			t.Run(e.name, e.run)
		}
	}
}

func importing(paths ...string) string {
	return "package p\n\nimport (\n\t\"" + strings.Join(paths, "\"\n\t\"") + "\"\n)\n"
}

func directionExamples() []example {
	rule := func(files []*file) []string { return checkDirection(files, direction()) }
	ours := func(pkg string) string { return importing("fmt", module+"/"+pkg) }
	return []example{
		{"direction/cmd to bench", "cmd/hfreduce/main.go", ours("bench"), rule, ""},
		{"direction/cmd to internal", "cmd/hfreduce/main.go", ours(in + "kernel"), rule, "cmd/hfreduce must not import hfreduce/internal/kernel"},
		{"direction/bench to cmd", "bench/run.go", ours("cmd/hfreduce"), rule, "bench must not import cmd/hfreduce"},
		{"direction/metrics to bench", "hfreduce/metrics/m.go", ours("bench"), rule, "must not import bench"},
		{"direction/kernelbench to kernel", "hfreduce/kernelbench/k.go", ours(in + "kernel"), rule, ""},
		{"direction/kernelbench to engine", "hfreduce/kernelbench/k.go", ours(in + "engine"), rule, "must not import hfreduce/internal/engine"},
		{"direction/core to kernelbench", "hfreduce/comm.go", ours("hfreduce/kernelbench"), rule, "hfreduce must not import hfreduce/kernelbench"},
		{"direction/core to metrics", "hfreduce/comm.go", ours("hfreduce/metrics"), rule, "hfreduce must not import hfreduce/metrics"},
		{"direction/core to engine", "hfreduce/comm.go", ours(in + "engine"), rule, ""},
		{"direction/engine to core", in + "engine/e.go", ours("hfreduce"), rule, "must not import hfreduce;"},
		{"direction/engine to core in a test", in + "engine/e_test.go", ours("hfreduce"), rule, "must not import hfreduce;"},
		{"direction/engine to one transport", in + "engine/e.go", ours(in + "transport/tcp"), rule, "transport/tcp"},
		{"direction/engine to mem", in + "engine/e.go", ours(in + "transport/mem"), rule, "transport/mem"},
		{"direction/engine to mem in a test", in + "engine/e_test.go", ours(in + "transport/mem"), rule, ""},
		{"direction/schedule to kernel", in + "schedule/s.go", ours(in + "kernel"), rule, "schedule must not import"},
		{"direction/kernel to wait", in + "kernel/k.go", ours(in + "wait"), rule, "it may import hfreduce/internal/invariant"},
		{"direction/cuda to core", "cuda/c.go", ours("hfreduce"), rule, "it may import nothing of this module"},
		{"direction/core to nvml", "hfreduce/gpu.go", ours("cuda/nvml"), rule, "hfreduce must not import cuda/nvml"},
		{"direction/cuda to nvml", "cuda/c.go", ours("cuda/nvml"), rule, "cuda must not import cuda/nvml"},
		{"direction/cmd to nvml", "cmd/hfreduce/doctor.go", ours("cuda/nvml"), rule, ""},
		{"direction/rdma to cuda", "rdma/r.go", ours("cuda"), rule, "rdma must not import cuda"},
		{"direction/verbs to rdma", in + "transport/verbs/v.go", ours("rdma"), rule, ""},
		{"direction/tcp to rdma", in + "transport/tcp/t.go", ours("rdma"), rule, "must not import rdma"},
		{"direction/external test of itself", in + "kernel/k_test.go", ours(in + "kernel"), rule, ""},
		{"direction/new package", "misc/m.go", "package misc\n", rule, "package misc has no row"},
		{"direction/new internal package", in + "util/m.go", "package util\n", rule, "has no row"},
	}
}

func limitExamples() []example {
	rule := func(files []*file) []string { return checkLimits(files, limits()) }
	const prometheus, unix = "github.com/prometheus/client_golang/prometheus", "golang.org/x/sys/unix"
	const nvml = "github.com/NVIDIA/go-nvml/pkg/nvml"
	return []example{
		{"limits/prometheus in metrics", "hfreduce/metrics/m.go", importing(prometheus), rule, ""},
		{"limits/prometheus in core", "hfreduce/c.go", importing(prometheus), rule, "hfreduce must not import " + prometheus},
		{"limits/prometheus in a core test", "hfreduce/c_test.go", importing(prometheus), rule, "do not pay for metrics"},
		{"limits/nvml", "cuda/nvml/list.go", importing(nvml), rule, ""},
		{"limits/nvml in cuda", "cuda/c.go", importing(nvml), rule, "may fail to start"},
		{"limits/nvml in a test", "cmd/hfreduce/c_test.go", importing(nvml), rule, "may fail to start"},
		{"limits/unix in wait", in + "wait/f.go", importing(unix), rule, ""},
		{"limits/unix in engine", in + "engine/e.go", importing(unix), rule, "system calls stay below the engine"},
		{"limits/unix in schedule", in + "schedule/s.go", importing(unix), rule, "must not import " + unix},
		{"limits/kong in bench", "bench/b.go", importing("github.com/alecthomas/kong"), rule, "only programs have flags"},
		{"limits/kong in cmd", "cmd/hfreduce/b.go", importing("github.com/alecthomas/kong"), rule, ""},
		{"limits/rapid in a test", in + "kernel/k_test.go", importing("pgregory.net/rapid", "testing"), rule, ""},
		{"limits/rapid in code", in + "kernel/k.go", importing("pgregory.net/rapid"), rule, "test library"},
		{"limits/testing in code", in + "kernel/k.go", importing("testing"), rule, "must not import testing"},
		{"limits/testing in the suite", in + "transport/transporttest/s.go", importing("testing", "testing/synctest"), rule, ""},
		{"limits/cgo in core", "hfreduce/c.go", "package p\n\nimport \"C\"\n", rule, "cgo stays in leaf packages"},
		{"limits/cgo in cuda", "cuda/c.go", "package p\n\nimport \"C\"\n", rule, ""},
		{"limits/cgo in kernelbench", "hfreduce/kernelbench/k.go", "package p\n\nimport \"C\"\n", rule, ""},
		{"limits/unknown", "bench/b.go", importing("example.com/a/b"), rule, "example.com/a/b is no known dependency"},
		{"limits/http in core", in + "hello/h.go", importing("net/http"), rule, "the core serves nothing"},
		{"limits/pprof in core", "hfreduce/c.go", importing("net/http/pprof"), rule, "the core serves nothing"},
		{"limits/net in core", in + "hello/h.go", importing("net"), rule, ""},
		{"limits/log in core", "hfreduce/c.go", importing("log"), rule, "Options.Logger"},
		{"limits/slog in core", "hfreduce/c.go", importing("log/slog"), rule, ""},
	}
}

func pureExamples() []example {
	rule := func(files []*file) []string { return checkPure(files, pure()) }
	var all []example
	for _, bad := range []string{"net", "os", "syscall", "time", "sync", "context", "golang.org/x/sys/unix"} {
		all = append(all, example{"pure/schedule with " + bad, in + "schedule/s.go", importing(bad), rule, "must not import " + bad})
	}
	for _, bad := range []string{"net", "os", "syscall", "time"} {
		all = append(all, example{"pure/kernel with " + bad, in + "kernel/k.go", importing(bad), rule, "must not import " + bad})
	}
	return append(all,
		example{"pure/kernel's choice", in + "kernel/dispatch.go", importing("os", "strings"), rule, ""},
		example{"pure/kernel's choice with net", in + "kernel/dispatch.go", importing("net"), rule, "must not import net"},
		example{"pure/schedule", in + "schedule/s.go", importing("math/bits", "slices", "fmt"), rule, ""},
		example{"pure/schedule test", in + "schedule/s_test.go", importing("os", "time", "testing"), rule, ""},
		example{"pure/step with clock", in + "engine/step.go", importing("time"), rule, "must not import time"},
		example{"pure/driver with clock", in + "engine/progress.go", importing("time"), rule, ""},
		example{"pure/goroutine", in + "schedule/s.go", "package p\n\nfunc f() {\n\tgo f()\n}\n", rule, "s.go:4: this code is pure and must not start goroutines"},
	)
}

func codeExamples() []example {
	const test = "package p\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {\n\t"
	var all []example
	for _, call := range []string{`t.Skip("later")`, `t.Skipf("later")`, `t.SkipNow()`, `t.Run("x", func(t *testing.T) { t.Skip() })`} {
		all = append(all, example{"skip/" + call, "bench/b_test.go", test + call + "\n}\n", checkSkips, "b_test.go:6: a test skips only"})
	}
	return append(all,
		example{"skip/testreq", "bench/b_test.go", test + "testreq.Missing(t, \"cuda\", \"no\")\n}\n", checkSkips, ""},
		example{"skip/in testreq", "internal/testreq/b.go", test + "t.Skip()\n}\n", checkSkips, ""},
		example{"skip/another Skip", "bench/b.go", "package p\n\nfunc f() { r.Skip(1) }\n", checkSkips, ""},
		example{"init/function", "bench/b.go", "package p\n\nfunc init() {}\n", checkInit, "b.go:3: no init"},
		example{"init/method", "bench/b.go", "package p\n\nfunc (t T) init() {}\n", checkInit, ""},
		example{"linkname", "bench/b.go", "package p\n\n//go:" + "linkname f runtime.f\nfunc f()\n", checkLinkname, "no linkname"},
		example{"manners/exit", "hfreduce/c.go", "package p\n\nfunc f() { os.Exit(1) }\n", checkLibraryManners, "does not end the process"},
		example{"manners/print", in + "hello/c.go", "package p\n\nfunc f() { fmt.Println() }\n", checkLibraryManners, "standard output"},
		example{"manners/builtin", in + "hello/c.go", "package p\n\nfunc f() { println() }\n", checkLibraryManners, "standard output"},
		example{"manners/Sprintf", "hfreduce/c.go", "package p\n\nfunc f() { fmt.Sprintf(\"\") }\n", checkLibraryManners, ""},
		example{"manners/program", "cmd/hfreduce/c.go", "package p\n\nfunc f() { os.Exit(1) }\n", checkLibraryManners, ""},
		example{"manners/TestMain", "hfreduce/c_test.go", "package p\n\nfunc f() { os.Exit(1) }\n", checkLibraryManners, ""},
	)
}

func docExamples() []example {
	doc := func(name, text, want string) example {
		return example{"docs/" + name, "bench/b.go", "package p\n\n" + text + "\n", checkDocs, want}
	}
	return []example{
		doc("function", "func F() {}", "b.go:3: exported function F has no comment"),
		doc("function with comment", "// F does.\nfunc F() {}", ""),
		doc("own function", "func f() {}", ""),
		doc("method", "func (t *T[K]) M() {}", "exported function M has no comment"),
		doc("method of own type", "func (t *t) M() {}", ""),
		doc("type", "type T int", "exported type T"),
		doc("const", "const C = 1", "exported const C"),
		doc("const group", "// Colours.\nconst (\n\tRed = iota\n\tBlue\n)", ""),
		doc("const line comment", "const C = 1 // one", ""),
		doc("var", "var A, b int", "exported var A"),
		doc("interface method", "// I is.\ntype I interface {\n\tM()\n}", "exported method I's M"),
		doc("interface method with comment", "// I is.\ntype I interface {\n\tM() // does\n}", ""),
		{"docs/test file", "bench/b_test.go", "package p\n\nfunc F() {}\n", checkDocs, ""},
		{"docs/package", "bench/b.go", "package p\n", checkPackageDocs, "package bench has its comment in 0 files"},
		{"docs/package with comment", "bench/b.go", "// Package p is.\npackage p\n", checkPackageDocs, ""},
		{"docs/example", "bench/b_test.go", "package p\n\nfunc ExampleF() {\n\t// Prints.\n}\n", checkExamples, "ExampleF has no Output comment"},
		{"docs/example with output", "bench/b_test.go", "package p\n\nfunc ExampleF() {\n\t// Output:\n\t// 1\n}\n", checkExamples, ""},
	}
}

func textExamples() []example {
	targets := func(files []*file) []string { return checkTargets(files, ".PHONY: a\n\nbuild: x\n\ntest-all:\n") }
	generated := "// Code generated by x. DO NOT EDIT.\n\n"
	all := []example{
		{"licence/missing", "bench/b.go", "package p\n", checkLicence, "first line"},
		{"licence/second line", "bench/b.go", "\n" + licence + "\n\npackage p\n", checkLicence, "first line"},
		{"licence/assembly", in + "kernel/b.s", "#include \"textflag.h\"\n", checkLicence, "first line"},
		{"licence/good", "bench/b.go", licence + "\n\npackage p\n", checkLicence, ""},
		{"licence/generated", "bench/b.go", generated + licence + "\n\npackage p\n", checkLicence, ""},
		{"licence/generated without", "bench/b.go", generated + "package p\n", checkLicence, "first line"},
		{"licence/other text", "README.md", "# x\n", checkLicence, ""},
		{"targets/there", "README.md", "Run `make build` or `make test-all`.\n\n    make build\n", targets, ""},
		{"targets/not there", "README.md", "Run\n`make test`.\n", targets, "README.md:2: the Makefile has no target test"},
		{"targets/in a block", "README.md", "```\n$ make bench\n```\n", targets, "README.md:2: the Makefile has no target bench"},
		{"targets/English", "README.md", "We make tea, and so\nit is.\n", targets, ""},
		{"words/fine", "bench/b.go", "package p\n\n// network/framework, a todo list, workplaces: /works\n", checkWords, ""},
	}
	for _, bad := range []string{"TO" + "DO", "FIX" + "ME(x)", "XX" + "X:", "HA" + "CK", "cd /" + "work/main", "/" + "home/me"} {
		all = append(all, example{"words/" + bad, "bench/b.go", "package p\n\n// a " + bad + "\n", checkWords, "b.go:3: "})
	}
	return append(all, example{"words/conflict", "a.md", "<<<<<<" + "< HEAD\n", checkWords, "conflict marker"})
}

func TestRulesOfBudgets(t *testing.T) {
	long := "package p\n\nfunc (t *T) Long() {\n" + strings.Repeat("\tf()\n", 79) + "}\n\nfunc short() {}\n"
	f, err := parse("bench/b.go", long)
	if err != nil {
		t.Fatal(err)
	}
	funcs, files := funcExtents([]*file{f}), fileExtents([]*file{f})
	for _, c := range []struct {
		name    string
		found   []string
		finding string
	}{
		{"function", checkBudget(funcs, 80, nil), "b.go:3: bench/b.go T.Long has 81 lines, its budget is 80"},
		{"function at the limit", checkBudget(funcs, 81, nil), ""},
		{"function with exception", checkBudget(funcs, 80, []exception{{"bench/b.go T.Long", 81, "why"}}), ""},
		{"function beyond exception", checkBudget(funcs, 50, []exception{{"bench/b.go T.Long", 60, "why"}}), "its budget is 60"},
		{"exception too many", checkBudget(funcs, 90, []exception{{"bench/b.go T.Long", 95, "why"}}), "does not need its exception"},
		{"exception of nothing", checkBudget(funcs, 90, []exception{{"bench/b.go gone", 95, "why"}}), "bench/b.go gone does not need its exception"},
		{"file", checkBudget(files, 84, nil), "b.go:1: bench/b.go has 85 lines, its budget is 84"},
		{"median", checkSpread("functions", funcs, 80, 90), "half of all functions have 81 lines"},
		{"p90", checkSpread("functions", append(funcs[1:], funcs[1:]...), 10, 0), "a tenth of all functions have 1 lines"},
		{"spread", checkSpread("files", files, 85, 85), ""},
		{"none", checkSpread("files", nil, 85, 85), "there are no files"},
	} {
		if c.finding == "" && len(c.found) != 0 || c.finding != "" && (len(c.found) != 1 || !strings.Contains(c.found[0], c.finding)) {
			t.Errorf("%s: found %q, want %q", c.name, c.found, c.finding)
		}
	}
}

func TestRulesOfDependencies(t *testing.T) {
	deps := []string{"fmt", module + "/hfreduce", "golang.org/x/sys/unix", "vendor/golang.org/x/net/dns/dnsmessage", "github.com/prometheus/client_golang/prometheus"}
	found := checkDeps("hfreduce", deps, []string{"golang.org/x/sys/..."})
	if len(found) != 1 || !strings.Contains(found[0], "importing hfreduce pulls in github.com/prometheus/client_golang/prometheus") {
		t.Errorf("found %q, want prometheus only", found)
	}
}

func TestRulesKnowWhatIsInModule(t *testing.T) {
	nested := map[string]bool{".ci/tools": true, "a/nested": true}
	for dir, want := range map[string]bool{
		".": true, "hfreduce/internal/kernel": true, "a": true, "a/nested": false, "a/nested/b": false,
		".ci/tools": false, "hfreduce/testdata/x": false, "hfreduce/internal/kernel/_asm": false,
	} {
		if got := inModule(dir, nested); got != want {
			t.Errorf("inModule(%q) = %t, want %t", dir, got, want)
		}
	}
}
