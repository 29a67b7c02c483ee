// SPDX-License-Identifier: Apache-2.0

package cpus

import "testing"

// FuzzParse: what is a list is the same set once it is written out, and its numbers are within bounds.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0-3,8", "65535", "65536", "3-1", "-1", "0-65535,0-65535", ",,1,\n", "1-2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		s, err := Parse(list)
		if err != nil {
			if s != "" {
				t.Errorf("%q: got %v and %v", list, s, err)
			}
			return
		}
		if len(s) > maxNumber/8 {
			t.Errorf("%q has processor %d", list, 8*len(s)-1)
		}
		if s == "" {
			return
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Errorf("%q is written %v, which is %v, %v", list, s, again, err)
		}
	})
}
