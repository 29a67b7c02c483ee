// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"testing"
)

// checkDocs finds exported names without a comment: functions, types, constants, variables, methods of exported types,
// and methods of exported interfaces. In a group one comment above the group will do.
func checkDocs(files []*file) (found []string) {
	for _, f := range files {
		if f.isTest() || f.isGenerated() {
			continue
		}
		bare := func(name *ast.Ident, kind string) {
			found = append(found, f.findf(f.line(name.Pos()), "exported %s %s has no comment: say what it is, units and errors included", kind, name.Name))
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && ast.IsExported(receiver(d)) {
					bare(d.Name, "function")
				}
			case *ast.GenDecl:
				checkGroup(d, bare)
			}
		}
	}
	return found
}

// receiver returns the type name of a method's receiver; of a function, its own name.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	for t := d.Recv.List[0].Type; ; {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// checkGroup looks at a const, var or type declaration.
func checkGroup(d *ast.GenDecl, bare func(*ast.Ident, string)) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if !s.Name.IsExported() {
				continue
			}
			if d.Doc == nil && s.Doc == nil && s.Comment == nil {
				bare(s.Name, "type")
			}
			checkInterface(s, bare)
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					bare(name, d.Tok.String())
				}
			}
		}
	}
}

// checkInterface looks at the methods of an interface.
func checkInterface(s *ast.TypeSpec, bare func(*ast.Ident, string)) {
	i, ok := s.Type.(*ast.InterfaceType)
	if !ok {
		return
	}
	for _, m := range i.Methods.List {
		for _, name := range m.Names {
			if name.IsExported() && m.Doc == nil && m.Comment == nil {
				bare(name, "method "+s.Name.Name+"'s")
			}
		}
	}
}

func TestDocsOfExportedNames(t *testing.T) { report(t, checkDocs(sources(t))) }

// checkPackageDocs finds packages that do not say what they are for, or say it twice.
func checkPackageDocs(files []*file) (found []string) {
	in := map[string][]string{}
	for _, f := range files {
		if f.isTest() {
			continue
		}
		in[f.dir()] = append(in[f.dir()], "")
		if f.ast.Doc != nil {
			in[f.dir()][len(in[f.dir()])-1] = f.path
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(in)) {
		documented := slices.DeleteFunc(in[dir], func(path string) bool { return path == "" })
		if len(documented) != 1 {
			found = append(found, fmt.Sprintf("package %s has its comment in %d files %v, want exactly one", dir, len(documented), documented))
		}
	}
	return found
}

func TestDocsOfPackages(t *testing.T) { report(t, checkPackageDocs(sources(t))) }

// checkExamples finds examples that are compiled only: without an "Output:" comment they are never run.
func checkExamples(files []*file) (found []string) {
	for _, f := range files {
		if !f.isTest() {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || fn.Body == nil || len(fn.Name.Name) < len("Example") || fn.Name.Name[:len("Example")] != "Example" {
				continue
			}
			if !hasOutput(f, fn.Body.Lbrace, fn.Body.Rbrace) {
				found = append(found, f.findf(f.line(fn.Pos()), "%s has no Output comment, so nothing runs it", fn.Name.Name))
			}
		}
	}
	return found
}

// hasOutput reports whether a comment between two positions starts with Output: or Unordered output:.
func hasOutput(f *file, from, to token.Pos) bool {
	return slices.ContainsFunc(f.ast.Comments, func(c *ast.CommentGroup) bool {
		return from < c.Pos() && c.End() < to && outputComment.MatchString(c.Text())
	})
}

func TestDocsExamplesRun(t *testing.T) { report(t, checkExamples(sources(t))) }
