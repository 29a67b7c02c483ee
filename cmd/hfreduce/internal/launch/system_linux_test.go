// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPinGivesEachRankProcessors(t *testing.T) {
	o, stdout, _ := roleOf(2, "processors")
	o.Pin = true
	if code := run(t, o); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s, err := newStarter()
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	all := processors(s.allowed)
	for rank := range 2 {
		set := share(rank, 2, all)
		want := fmt.Sprintf("%d %d", rank, set[0])
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("output %q lacks %q...", stdout, want)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		rank, n int
		all     []int
		want    []int
	}{
		{0, 2, []int{0, 1, 2, 3}, []int{0, 1}}, {1, 2, []int{0, 1, 2, 3}, []int{2, 3}},
		{3, 4, []int{4, 7}, []int{7}}, {2, 4, []int{4, 7}, []int{4}}, {0, 1, []int{5}, []int{5}}, {2, 3, []int{0, 1, 2, 3}, []int{2}},
	} {
		if got := share(c.rank, c.n, c.all); !slices.Equal(got, c.want) {
			t.Errorf("share(%d, %d, %v) = %v, want %v", c.rank, c.n, c.all, got, c.want)
		}
	}
}
