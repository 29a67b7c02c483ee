// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"fmt"
	"strings"
	"testing"
)

// recorder is a test that writes down how it fails.
type recorder struct {
	testing.TB
	failure string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.failure = fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, got, failure string }{
		{"agreed.txt", "as agreed\n", ""},
		{"agreed.txt", "otherwise\n", "testdata/agreed.txt differs"},
		{"missing.txt", "", "go test -update writes it"},
	} {
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			Check(r, c.name, c.got)
		}()
		if (r.failure == "") != (c.failure == "") || !strings.Contains(r.failure, c.failure) {
			t.Errorf("%s with %q: %q, want %q", c.name, c.got, r.failure, c.failure)
		}
	}
}
