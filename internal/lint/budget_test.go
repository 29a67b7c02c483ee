// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// The budgets in lines: what nothing may exceed, tests included, and what the code that is not test keeps to as a whole.
const (
	fileLimit, fileMedian, fileP90 = 600, 150, 400
	funcLimit, funcMedian, funcP90 = 80, 10, 40
)

// exception lets one file or function be longer, for a reason. name is "path" or "path Func" or "path Type.Method".
type exception struct {
	name  string
	lines int
	why   string
}

// exceptions is short on purpose. An entry that is not needed any more is a finding.
func exceptions() []exception { return nil }

// extent is how long a file or function is.
type extent struct {
	name  string
	file  *file
	line  int
	lines int
}

func fileExtents(files []*file) (all []extent) {
	for _, f := range files {
		if !f.isGenerated() {
			all = append(all, extent{f.path, f, 1, strings.Count(f.text, "\n")})
		}
	}
	return all
}

func funcExtents(files []*file) (all []extent) {
	for _, f := range files {
		if f.isGenerated() {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := fn.Name.Name
			if fn.Recv != nil {
				name = receiver(fn) + "." + name
			}
			first, last := f.line(fn.Pos()), f.line(fn.End())
			all = append(all, extent{f.path + " " + name, f, first, last - first + 1})
		}
	}
	return all
}

// checkBudget finds what is longer than the limit or its exception, and exceptions that nothing needs.
func checkBudget(all []extent, limit int, allowed []exception) (found []string) {
	needed := map[string]bool{}
	for _, e := range all {
		most := limit
		i := slices.IndexFunc(allowed, func(x exception) bool { return x.name == e.name })
		if i >= 0 {
			most = max(limit, allowed[i].lines)
			needed[e.name] = e.lines > limit
		}
		if e.lines > most {
			found = append(found, e.file.findf(e.line, "%s has %d lines, its budget is %d: split it by what it does", e.name, e.lines, most))
		}
	}
	for _, x := range allowed {
		if !needed[x.name] {
			found = append(found, fmt.Sprintf("%s does not need its exception: remove it (internal/lint, exceptions)", x.name))
		}
	}
	return found
}

// checkSpread finds a kind of code that is too long on the whole.
func checkSpread(kind string, all []extent, median, p90 int) (found []string) {
	if len(all) == 0 {
		return []string{"there are no " + kind}
	}
	lines := make([]int, len(all))
	for i, e := range all {
		lines[i] = e.lines
	}
	slices.Sort(lines)
	if m := lines[len(lines)/2]; m > median {
		found = append(found, fmt.Sprintf("half of all %s have %d lines or more, the budget of the median is %d", kind, m, median))
	}
	if p := lines[len(lines)*9/10]; p > p90 {
		found = append(found, fmt.Sprintf("a tenth of all %s have %d lines or more, the budget is %d", kind, p, p90))
	}
	return found
}

// code drops the tests: their functions are tables as often as not.
func code(all []extent) []extent {
	return slices.DeleteFunc(slices.Clone(all), func(e extent) bool { return e.file.isTest() })
}

// split divides the exceptions into those of files and those of functions.
func split(all []exception) (ofFiles, ofFuncs []exception) {
	for _, x := range all {
		if strings.Contains(x.name, " ") {
			ofFuncs = append(ofFuncs, x)
		} else {
			ofFiles = append(ofFiles, x)
		}
	}
	return ofFiles, ofFuncs
}

func TestBudgetOfFiles(t *testing.T) {
	all := fileExtents(sources(t))
	ofFiles, _ := split(exceptions())
	report(t, checkBudget(all, fileLimit, ofFiles))
	report(t, checkSpread("files", code(all), fileMedian, fileP90))
}

func TestBudgetOfFunctions(t *testing.T) {
	all := funcExtents(sources(t))
	_, ofFuncs := split(exceptions())
	report(t, checkBudget(all, funcLimit, ofFuncs))
	report(t, checkSpread("functions", code(all), funcMedian, funcP90))
}
