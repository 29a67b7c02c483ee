// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// matches reports whether a pattern of the tables covers a package: its path in the module (or an import path), or
// that and everything below with "/..." at the end.
func matches(pattern, pkg string) bool {
	if base, below := strings.CutSuffix(pattern, "/..."); below {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pattern == pkg
}

func anyMatches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// row says which packages of ours a package may import, all by their path in the module.
type row struct {
	pkg   string
	may   []string
	tests []string // what its tests may import besides
}

const in = "hfreduce/internal/"

// helpers are packages that exist for tests; any test may import them.
func helpers() []string {
	return []string{"internal/testreq", "internal/golden", "internal/fakecuda", "internal/testcert", in + "transport/transporttest", in + "transport/mem", in + "transport/fault"}
}

// direction is the architecture: imports go down this list only. A package that no row covers is a finding.
func direction() []row {
	transport := []string{in + "transport", in + "wait", in + "invariant"}
	wire := append([]string{in + "hello", in + "hostmem", in + "pulse"}, transport...)
	return []row{
		{pkg: "cmd/...", may: []string{"cmd/...", "internal/cpus", "bench/...", "cuda", "cuda/nvml", "hfreduce", "hfreduce/metrics", "hfreduce/kernelbench", "hfreduce/linkbench"}},
		{pkg: "bench/...", may: []string{"bench/...", "cuda", "hfreduce", "hfreduce/metrics"}},
		{pkg: "hfreduce/metrics", may: []string{"hfreduce"}},
		{pkg: "hfreduce/linkbench", may: []string{"hfreduce"}},
		// It measures the kernels themselves, which nothing outside hfreduce may import.
		{pkg: "hfreduce/kernelbench", may: []string{"hfreduce", in + "kernel"}},
		{pkg: "hfreduce", may: []string{in + "...", "internal/cpus", "cuda", "rdma"}},
		{pkg: in + "engine", may: append([]string{in + "schedule", in + "kernel", in + "hostmem"}, transport...)},
		{pkg: in + "probe", may: transport},
		{pkg: in + "bootstrap", may: []string{"internal/cpus", in + "hello", in + "pulse", in + "wait", in + "invariant"}},
		{pkg: in + "transport/tcp", may: wire},
		{pkg: in + "transport/shm", may: wire},
		{pkg: in + "transport/verbs", may: append([]string{"rdma"}, wire...), tests: []string{in + "transport/tcp"}},
		{pkg: in + "transport/mem", may: transport},
		{pkg: in + "transport/fault", may: transport, tests: []string{in + "hello", in + "transport/tcp"}},
		{pkg: in + "transport/transporttest", may: append([]string{in + "hostmem"}, transport...)},
		{pkg: in + "transport", may: []string{in + "wait", in + "invariant"}},
		{pkg: in + "topo", may: []string{"internal/cpus", in + "invariant"}},
		{pkg: in + "hostmem", may: []string{in + "wait", in + "invariant"}},
		{pkg: in + "pulse", may: []string{in + "invariant"}},
		{pkg: in + "hello", may: []string{in + "pulse", in + "invariant"}},
		{pkg: in + "kernel", may: []string{in + "invariant"}},
		{pkg: in + "schedule", may: []string{in + "invariant"}},
		{pkg: in + "wait", may: []string{in + "invariant"}},
		{pkg: in + "invariant"},
		{pkg: "cuda/..."},
		{pkg: "rdma/..."},
		{pkg: "internal/cpus"},
		{pkg: "internal/testreq"},
		{pkg: "internal/golden"},
		{pkg: "internal/testcert"},
		{pkg: "internal/fakecuda", may: []string{"internal/testreq"}},
		{pkg: "internal/lint"},
	}
}

// checkDirection finds imports within the module that the table does not allow.
func checkDirection(files []*file, table []row) (found []string) {
	for _, f := range files {
		i := slices.IndexFunc(table, func(r row) bool { return matches(r.pkg, f.dir()) })
		if i < 0 {
			found = append(found, f.findf(1, "package %s has no row in the table of imports: give it one (internal/lint, direction)", f.dir()))
			continue
		}
		for _, imported := range f.imports() {
			pkg, ours := strings.CutPrefix(imported, module+"/")
			if !ours || pkg == f.dir() || anyMatches(table[i].may, pkg) {
				continue
			}
			if f.isTest() && (anyMatches(table[i].tests, pkg) || anyMatches(helpers(), pkg)) {
				continue
			}
			found = append(found, f.findf(1, "%s must not import %s; it may import %s (internal/lint, direction)",
				f.dir(), pkg, orNothing(table[i].may)))
		}
	}
	return found
}

func orNothing(may []string) string {
	if len(may) == 0 {
		return "nothing of this module"
	}
	return strings.Join(may, ", ")
}

func TestImportDirection(t *testing.T) { report(t, checkDirection(sources(t), direction())) }

// TestImportDirectionKnowsEveryPackage holds the files that the rules read against what the go command would build.
func TestImportDirectionKnowsEveryPackage(t *testing.T) {
	read := map[string]bool{}
	for _, f := range sources(t) {
		read[path.Join(module, f.dir())] = true
	}
	for _, pkg := range goList(t, "-e", "./...") {
		if !read[pkg] {
			t.Errorf("go list ./... has %s, but no rule sees it", pkg)
		}
	}
}

// limit says who may import a package (of the standard library or another module) that not all of ours may.
type limit struct {
	imported string
	by       []string
	tests    bool // any test may, too
	why      string
}

// limits is the complete list of other modules' packages in use, and the restricted ones of the standard library.
func limits() []limit {
	harness := []string{"internal/testreq", "internal/golden", "internal/fakecuda", "internal/testcert", in + "transport/transporttest"}
	programs := []string{"cmd/...", "bench/..."}
	return []limit{
		// hfreduce/kernelbench needs it for the yardstick only, libc's memcpy, and does without where there is no cgo.
		{"C", []string{"cuda", "rdma", "cmd/libhfreduce", "hfreduce/kernelbench"}, false, "cgo stays in leaf packages"},
		{"golang.org/x/sys/unix", []string{"internal/cpus", "hfreduce", "rdma", in + "wait", in + "hostmem", in + "hello", in + "pulse", in + "bootstrap", in + "topo",
			in + "transport/tcp", in + "transport/shm", in + "transport/verbs", "hfreduce/kernelbench", "cmd/..."}, true, "system calls stay below the engine"},
		{"golang.org/x/sys/cpu", []string{in + "kernel"}, true, "only kernels depend on the CPU"},
		{"golang.org/x/term", programs, false, "only programs have a terminal"},
		{"github.com/NVIDIA/go-nvml/...", []string{"cuda/nvml"}, false, "what links it may fail to start: it stays behind the build tag nvml"},
		{"github.com/prometheus/...", []string{"hfreduce/metrics", "cmd/...", "bench/..."}, false, "users of the core do not pay for metrics"},
		{"github.com/alecthomas/kong", []string{"cmd/..."}, false, "only programs have flags"},
		{"github.com/schollz/progressbar/...", programs, false, "only programs have a terminal"},
		{"pgregory.net/rapid", harness, true, "test library"},
		{"go.uber.org/goleak", harness, true, "test library"},
		{"testing/...", harness, true, "test library"},
		{"flag", append([]string{"internal/golden"}, programs...), true, "only programs and tests have flags"},
		{"log", programs, true, "the core logs to Options.Logger"},
		{"net/http/...", []string{"hfreduce/metrics", "cmd/...", "bench/..."}, true, "the core serves nothing"},
		{"os/exec", append([]string{"internal/fakecuda"}, programs...), true, "the core starts no process"},
		{"os/signal", programs, true, "signals belong to the program"},
	}
}

// checkLimits finds imports from outside the module that the table does not allow.
func checkLimits(files []*file, table []limit) (found []string) {
	for _, f := range files {
		for _, imported := range f.imports() {
			i := slices.IndexFunc(table, func(l limit) bool { return matches(l.imported, imported) })
			switch {
			case i < 0 && external(imported):
				found = append(found, f.findf(1, "%s is no known dependency: list it with who may import it and why (internal/lint, limits)", imported))
			case i >= 0 && !anyMatches(table[i].by, f.dir()) && !(table[i].tests && f.isTest()):
				found = append(found, f.findf(1, "%s must not import %s: %s (internal/lint, limits)", f.dir(), imported, table[i].why))
			}
		}
	}
	return found
}

// external reports whether an import path belongs to another module: its first element has a dot.
func external(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".") && !matches(module+"/...", imported)
}

func TestImportLimits(t *testing.T) { report(t, checkLimits(sources(t), limits())) }

// pure lists the packages, and single files, that compute and do nothing else: with all that they may import. No
// clock, no I/O, no system call.
func pure() map[string][]string {
	computing := []string{"cmp", "errors", "fmt", "iter", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings"}
	kernel := append([]string{"encoding/binary", "math/cmplx", "runtime", "sync", "sync/atomic", "unsafe", "golang.org/x/sys/cpu"}, computing...)
	return map[string][]string{
		in + "schedule":           computing,
		in + "kernel":             kernel,
		in + "kernel/dispatch.go": append([]string{"os"}, kernel...), // the choice of the backend can be overridden
		in + "engine/step.go":     append([]string{module + "/" + in + "schedule"}, computing...),
	}
}

// checkPure finds what is not computing in pure code: imports, and goroutines.
func checkPure(files []*file, table map[string][]string) (found []string) {
	for _, f := range files {
		may, ok := table[f.path]
		if !ok {
			may, ok = table[f.dir()]
		}
		if !ok || f.isTest() {
			continue
		}
		for _, imported := range f.imports() {
			if !slices.Contains(may, imported) && imported != path.Join(module, in, "invariant") {
				found = append(found, f.findf(1, "this code is pure and must not import %s; it may import %s (internal/lint, pure)",
					imported, strings.Join(may, ", ")))
			}
		}
		for _, n := range goStatements(f) {
			found = append(found, f.findf(n, "this code is pure and must not start goroutines (internal/lint, pure)"))
		}
	}
	return found
}

func TestImportsOfPureCode(t *testing.T) {
	files, table := sources(t), pure()
	for name := range table {
		if !slices.ContainsFunc(files, func(f *file) bool { return f.path == name || f.dir() == name }) {
			t.Errorf("%s is listed as pure, but is not there", name)
		}
	}
	report(t, checkPure(files, table))
}

// checkDeps finds modules that a user of a package would have to load and that are not allowed.
func checkDeps(pkg string, deps, allowed []string) (found []string) {
	for _, dep := range deps {
		if external(dep) && !anyMatches(allowed, dep) {
			found = append(found, fmt.Sprintf("importing %s pulls in %s; allowed is %s", pkg, dep, strings.Join(allowed, ", ")))
		}
	}
	return found
}

// TestImportsOfCore: who links the library gets golang.org/x/sys with it and nothing else.
func TestImportsOfCore(t *testing.T) {
	deps := goList(t, "-deps", "./hfreduce")
	if !slices.Contains(deps, module+"/hfreduce") {
		t.Fatalf("go list -deps ./hfreduce does not list the package itself: %v", deps)
	}
	report(t, checkDeps("hfreduce", deps, []string{"golang.org/x/sys/..."}))
}
