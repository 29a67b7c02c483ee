// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// goStatements returns the lines that start a goroutine.
func goStatements(f *file) (lines []int) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.GoStmt); ok {
			lines = append(lines, f.line(s.Pos()))
		}
		return true
	})
	return lines
}

// calls visits every call of the form x.name(...) or name(...) in a file; x is "" in the second form, and "?" where it
// is not a plain name.
func calls(f *file, visit func(line int, x, name string)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			visit(f.line(call.Pos()), "", fun.Name)
		case *ast.SelectorExpr:
			x := "?"
			if id, ok := fun.X.(*ast.Ident); ok {
				x = id.Name
			}
			visit(f.line(call.Pos()), x, fun.Sel.Name)
		}
		return true
	})
}

// checkSkips finds tests that skip other than through testreq.
func checkSkips(files []*file) (found []string) {
	for _, f := range files {
		if f.dir() == "internal/testreq" || !slices.Contains(f.imports(), "testing") {
			continue
		}
		calls(f, func(line int, x, name string) {
			if x != "" && (name == "Skip" || name == "Skipf" || name == "SkipNow") {
				found = append(found, f.findf(line, "a test skips only for a missing feature, by testreq.Missing, not by %s.%s", x, name))
			}
		})
	}
	return found
}

func TestCodeSkipsOnlyThroughTestreq(t *testing.T) { report(t, checkSkips(sources(t))) }

// checkInit finds init functions: nothing happens before a constructor is called.
func checkInit(files []*file) (found []string) {
	for _, f := range files {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, f.findf(f.line(fn.Pos()), "no init functions: do it in a constructor"))
			}
		}
	}
	return found
}

func TestCodeHasNoInit(t *testing.T) { report(t, checkInit(sources(t))) }

// checkLinkname finds code that reaches into the runtime: it breaks with the next Go release.
func checkLinkname(files []*file) (found []string) {
	for _, f := range files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:"+"linkname") {
					found = append(found, f.findf(f.line(c.Pos()), "no linkname: use exported functions"))
				}
			}
		}
	}
	return found
}

func TestCodeHasNoLinkname(t *testing.T) { report(t, checkLinkname(sources(t))) }

// checkLibraryManners finds library code that ends the process or writes to its standard output.
func checkLibraryManners(files []*file) (found []string) {
	for _, f := range files {
		if f.isTest() || !matches("hfreduce/...", f.dir()) {
			continue
		}
		calls(f, func(line int, x, name string) {
			switch {
			case x == "os" && name == "Exit", x == "log" && strings.HasPrefix(name, "Fatal"):
				found = append(found, f.findf(line, "a library returns errors, it does not end the process"))
			case x == "fmt" && strings.HasPrefix(name, "Print"), x == "" && (name == "print" || name == "println"):
				found = append(found, f.findf(line, "standard output belongs to the program: log to Options.Logger"))
			}
		})
	}
	return found
}

func TestCodeOfLibraryHasManners(t *testing.T) { report(t, checkLibraryManners(sources(t))) }
