// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	outputComment = regexp.MustCompile(`(?i)^\s*(unordered )?output:`)
	makeCall      = regexp.MustCompile("`make ([a-z][a-z0-9-]*)|(?m:^\\s*(?:\\$ )?make ([a-z][a-z0-9-]*))")
	makeTarget    = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
)

const licence = "// SPDX-License-Identifier: Apache-2.0"

// checkLicence finds source files that do not name their licence in the first line. What a generator writes may name it
// further down, before the code.
func checkLicence(files []*file) (found []string) {
	for _, f := range files {
		switch path.Ext(f.path) {
		case ".go", ".s", ".c", ".h":
		default:
			continue
		}
		head, _, _ := strings.Cut(f.text, "\n")
		if strings.HasPrefix(head, "// Code generated ") {
			head, _, _ = strings.Cut(f.text, "\npackage ")
		}
		if !slices.Contains(strings.Split(head, "\n"), licence) {
			found = append(found, f.findf(1, "the first line must be %q", licence))
		}
	}
	return found
}

func TestTextNamesLicence(t *testing.T) { report(t, checkLicence(repository(t))) }

// forbidden lists what no text of the repository may contain, and why. The words are put together here so that this
// file does not contain them.
func forbidden() map[string]*regexp.Regexp {
	word := func(s ...string) *regexp.Regexp { return regexp.MustCompile(`\b(` + strings.Join(s, "") + `)\b`) }
	return map[string]*regexp.Regexp{
		"what is left to do belongs into the issue tracker": word("TO", "DO|FIX", "ME|XX", "X|HA", "CK"),
		"a path of one machine says nothing on another":     regexp.MustCompile(`/` + `work/|/` + `home/[a-z]`),
		"conflict marker": regexp.MustCompile(`(?m)^(<{7}|>{7}) `),
	}
}

// checkWords finds forbidden words.
func checkWords(files []*file) (found []string) {
	for _, f := range files {
		for why, re := range forbidden() {
			for _, at := range re.FindAllStringIndex(f.text, -1) {
				line := 1 + strings.Count(f.text[:at[0]], "\n")
				found = append(found, f.findf(line, "%q: %s", f.text[at[0]:at[1]], why))
			}
		}
	}
	return found
}

func TestTextHasNoForbiddenWords(t *testing.T) { report(t, checkWords(repository(t))) }

// checkTargets finds documentation that tells the reader to make something that the Makefile does not have.
func checkTargets(docs []*file, makefile string) (found []string) {
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, m[1])
	}
	for _, f := range docs {
		if path.Ext(f.path) != ".md" {
			continue
		}
		for _, m := range makeCall.FindAllStringSubmatchIndex(f.text, -1) {
			from, to := max(m[2], m[4]), max(m[3], m[5])
			if target := f.text[from:to]; !slices.Contains(targets, target) {
				found = append(found, f.findf(1+strings.Count(f.text[:from], "\n"), "the Makefile has no target %s", target))
			}
		}
	}
	return found
}

func TestTextNamesOnlyMakeTargetsThatExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkTargets(repository(t), string(makefile)))
}

// TestTextLayout: what a newcomer, a packager and CI look for is where they look for it.
func TestTextLayout(t *testing.T) {
	for _, name := range []string{
		"README.md", "LICENSE", "Makefile", "Dockerfile", ".ci/run", ".ci/tools/go.mod", "go.mod", "go.sum",
		"docs/architecture.md", "docs/algorithms.md", "docs/testing.md",
		"hfreduce/doc.go", "hfreduce/example_test.go", "hfreduce/metrics", "bench", "cmd/hfreduce",
	} {
		if _, err := os.Stat(filepath.Join(root(t), filepath.FromSlash(name))); err != nil {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
}
