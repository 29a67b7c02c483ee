// SPDX-License-Identifier: Apache-2.0

// Package lint holds the rules of this repository that no general linter knows, as tests: which package may import
// which, which packages are pure, what may depend on what from outside, that every exported name is documented, how
// long files and functions may be, and how tests may skip.
//
// A rule is a function from parsed files to findings, so that each has two tests: it finds nothing in the repository,
// and it finds the fault in a small bad example (rules_test.go). Tables say what is allowed; changing the architecture
// means changing a row here, in the same commit, with a reason.
package lint
