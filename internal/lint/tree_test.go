// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hfreduce/hfreduce"

// file is a file of the repository as the rules see it.
type file struct {
	path string // from the root, with slashes
	text string
	fset *token.FileSet // of Go files
	ast  *ast.File      // nil if it is not Go
}

// dir is the path of the file's package within the module.
func (f *file) dir() string { return path.Dir(f.path) }

func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f *file) isGenerated() bool { return f.ast != nil && ast.IsGenerated(f.ast) }

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

// imports returns the import paths of a Go file.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// findf writes one finding: where, what, and what to do about it.
func (f *file) findf(line int, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.path, line, fmt.Sprintf(format, args...))
}

// parse makes a file of a text.
func parse(name, text string) (*file, error) {
	f := &file{path: name, text: text}
	if path.Ext(name) != ".go" {
		return f, nil
	}
	f.fset = token.NewFileSet()
	var err error
	f.ast, err = parser.ParseFile(f.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+module+"\n") {
		t.Fatalf("%s is not the root of module %s (%v)", dir, module, err)
	}
	return dir
}

// repository returns the text files of the repository: all that git tracks or would track.
func repository(t *testing.T) []*file {
	t.Helper()
	dir := root(t)
	var files []*file
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(name, dir), string(filepath.Separator)))
		if d.IsDir() {
			if rel == ".git" || rel == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return err
		}
		f, err := parse(rel, string(text))
		if err != nil {
			return fmt.Errorf("parsing %s: %w", rel, err)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sources returns the Go files of the module's packages, for every platform: what the go command would build somewhere.
func sources(t *testing.T) []*file {
	t.Helper()
	all := repository(t)
	nested := map[string]bool{}
	for _, f := range all {
		if path.Base(f.path) == "go.mod" {
			nested[f.dir()] = f.path != "go.mod"
		}
	}
	return slices.DeleteFunc(all, func(f *file) bool { return f.ast == nil || !inModule(f.dir(), nested) })
}

// inModule reports whether the go command looks for packages of the module in dir.
func inModule(dir string, nested map[string]bool) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		base := path.Base(dir)
		if nested[dir] || base == "testdata" || strings.HasPrefix(base, "_") || strings.HasPrefix(base, ".") {
			return false
		}
	}
	return true
}

// goList runs go list at the root and returns its lines.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root(t)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return strings.Fields(string(out))
}

// report fails the test with what a rule found.
func report(t *testing.T, findings []string) {
	t.Helper()
	for _, f := range findings {
		t.Error(f)
	}
}
