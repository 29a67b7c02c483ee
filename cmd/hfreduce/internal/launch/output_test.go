// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestOutputComesInLines(t *testing.T) {
	for output, form := range map[Output]string{Lines: "rank %d line %d\n", Prefixed: "[%[1]d] rank %[1]d line %[2]d\n"} {
		o, stdout, stderr := roleOf(3, "write")
		o.Output = output
		if code := run(t, o); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		next := [3]int{}
		for line := range strings.Lines(stdout.String()) {
			found := false
			for rank := range next {
				if line == fmt.Sprintf(form, rank, next[rank]) {
					next[rank]++
					found = true
				}
			}
			if !found {
				t.Fatalf("line %q is mixed or out of order, next are %v", line, next)
			}
		}
		if next != [3]int{200, 200, 200} {
			t.Errorf("lines of ranks: %v", next)
		}
		if n := strings.Count(stderr.String(), "no newline\n"); n != 3 {
			t.Errorf("stderr %q", stderr)
		}
	}
}

func TestLineWriterPassesLongLinesInParts(t *testing.T) {
	var out bytes.Buffer
	l := &lineWriter{mu: new(sync.Mutex), to: &out, prefix: "> "}
	long := strings.Repeat("x", maxLine+1)
	for _, s := range []string{long, "yz\n", "", "last"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "> " + long + "\n> yz\n> last\n"; out.String() != want {
		t.Errorf("%d bytes, want %d", out.Len(), len(want))
	}
}
