// SPDX-License-Identifier: Apache-2.0

package testreq

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that ends as Missing tells it to.
type recorder struct {
	testing.TB
	verdict, text string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) { r.end("failed", format, args) }

func (r *recorder) Skipf(format string, args ...any) { r.end("skipped", format, args) }

func (r *recorder) end(verdict, format string, args []any) {
	r.verdict, r.text = verdict, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// missing calls Missing as a test would, and returns how the test ended.
func missing(feature, why string) recorder {
	r := recorder{verdict: "went on"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Missing(&r, feature, why)
	}()
	<-done
	return r
}

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		require, feature string
		verdict          string
		says             []string
	}{
		{"", "cuda", "skipped", []string{`"cuda"`, "an NVIDIA GPU", "no libcuda.so.1"}},
		{"avx512,verbs", "cuda", "skipped", []string{"no libcuda.so.1"}},
		{"cuda", "cuda", "failed", []string{"HFREDUCE_TEST_REQUIRE=cuda", `"cuda"`, "no libcuda.so.1"}},
		{"avx512, cuda ,verbs", "cuda", "failed", []string{"no libcuda.so.1"}},
		{"all", "cuda", "failed", []string{"no libcuda.so.1"}},
		{",", "cuda", "skipped", []string{"no libcuda.so.1"}},
		{"cudas", "cuda", "failed", []string{`unknown feature "cudas"`, "avx512", "verbs"}},
		{"cuda,nets", "cuda", "failed", []string{`unknown feature "nets"`}},
		{"", "a gpu", "failed", []string{`unknown feature "a gpu"`, "testreq.Features"}},
		{"", "", "failed", []string{`unknown feature ""`}},
	} {
		t.Run(c.require+"/"+c.feature, func(t *testing.T) {
			t.Setenv(Variable, c.require)
			got := missing(c.feature, "no libcuda.so.1")
			if got.verdict != c.verdict {
				t.Errorf("the test %s (%s), want %s", got.verdict, got.text, c.verdict)
			}
			for _, part := range c.says {
				if !strings.Contains(got.text, part) {
					t.Errorf("%q does not say %q", got.text, part)
				}
			}
		})
	}
}
