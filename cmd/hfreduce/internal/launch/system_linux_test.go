// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

func TestBindGivesEachRankProcessors(t *testing.T) {
	allowed, err := cpus.Allowed()
	if err != nil {
		t.Fatal(err)
	}
	for _, binding := range []cpus.Binding{cpus.Core, cpus.None} {
		o, stdout, _ := roleOf(2, "processors")
		o.Bind = binding
		if code := run(t, o); code != 0 {
			t.Fatalf("%s: exit code %d", binding, code)
		}
		for rank := range 2 {
			want := fmt.Sprintf("%d %v\n", rank, binding.Place(allowed, nil, rank, 2))
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: output %q lacks %q", binding, stdout, want)
			}
		}
	}
}
