// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		" ; \n;;":                           "",
		"seed=42":                           "",
		"seed=42; drop":                     "seed=42; drop",
		"drop; seed=18446744073709551615":   "seed=18446744073709551615; drop",
		"delay=5ms rank=1 peer=2 p=0.1":     "seed=1; delay=5ms rank=1 peer=2 p=0.1",
		"drop rank=1 seq=17":                "seed=1; drop rank=1 seq=17",
		"reset rank=0 peer=1 after=100":     "seed=1; reset rank=0 peer=1 after=100 times=1",
		"half-close after=10 rank=0 peer=1": "seed=1; half-close rank=0 peer=1 after=10 times=1",
		"partial=512 rank=0 seq=9":          "seed=1; partial=512 rank=0 seq=9 times=1",
		"partial=0":                         "seed=1; partial=0 times=1",
		"corrupt rank=0 seq=9":              "seed=1; corrupt=1 rank=0 seq=9",
		"corrupt=12 p=1e-4 times=3":         "seed=1; corrupt=12 p=0.0001 times=3",
		"partition=0,1|2-3 after=10 for=2s": "seed=1; partition=0,1|2-3 after=10 for=2s",
		"partition=0|1":                     "seed=1; partition=0|1",
		"kill rank=2 call=3 stage=reduce":   "seed=1; kill rank=2 call=3 stage=reduce comm=world times=1",
		"stop rank=0-1 comm=any times=2":    "seed=1; stop rank=0-1 stage=enter comm=any times=2",
		"abort p=0.5":                       "seed=1; abort stage=enter comm=world p=0.5 times=1",
		"pause=200ms stage=up":              "seed=1; pause=200ms stage=up comm=world",
		"drop landing=0,2,4-7\treset":       "!\"reset\" is no condition of drop",
		"drop landing=0,2,4-7\nreset":       "seed=1; drop landing=0,2,4-7; reset times=1",
	} {
		p, err := Parse(text)
		if bad, found := strings.CutPrefix(want, "!"); found {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%q: error %v, want one with %q", text, err, bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := p.String(); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"boom":                            `rule 1 "boom": there is no action "boom"; there are seed, delay, drop, reset`,
		"drop;; dorp rank=1":              `rule 2 "dorp rank=1": there is no action "dorp"`,
		"=5":                              `there is no action ""`,
		"seed":                            `there is no action "seed"`,
		"seed=x":                          "a seed is a number from 0 and stands alone, as in seed=42",
		"seed=1 drop":                     "a seed is a number from 0 and stands alone",
		"seed=1; seed=1":                  "there is a seed already",
		"drop=5":                          `drop takes no argument: leave out "=5"`,
		"delay":                           "delay needs an argument, as in delay=5ms",
		"pause":                           "pause needs an argument, as in pause=200ms",
		"partial":                         "partial needs an argument, as in partial=512",
		"partition":                       "partition needs an argument, as in partition=0,1|2,3",
		"delay=5":                         "delay=5 is not a time above 0 and up to 24h0m0s, as in delay=5ms",
		"delay=-5ms":                      "is not a time above 0",
		"pause=25h":                       "pause=25h is not a time",
		"partial=-1":                      "partial=-1 is not a number of bytes from 0 to 2147483647",
		"corrupt=0":                       "corrupt=0 is not a number of bits from 1 to 4096",
		"corrupt=4097":                    "is not a number of bits",
		"partition=0":                     "partition=0 has no border; list the ranks of both sides, as in partition=0,1|2,3",
		"partition=0|x":                   `partition=x: "x" is neither a number nor a range, as in partition=0,2,4-7`,
		"partition=0-2|2,3":               "rank 2 is on both sides of the partition",
		"partition=0|1 rank=0":            `"rank=0" is no condition of partition; it takes after, for`,
		"drop rank":                       `"rank" is no condition of drop; it takes rank, peer, landing, seq, after, p, times, each as NAME=VALUE`,
		"drop speed=3":                    `"speed=3" is no condition of drop`,
		"drop for=3s":                     `"for=3s" is no condition of drop`,
		"drop call=3":                     `"call=3" is no condition of drop`,
		"kill rank=1 seq=3":               `"seq=3" is no condition of kill; it takes rank, call, stage, comm, p, times`,
		"drop rank=1 rank=2":              "rank= stands there twice",
		"drop rank=":                      `rank=: "" is neither a number nor a range, as in rank=0,2,4-7`,
		"drop rank=2-1":                   `rank=2-1: "2-1" is neither a number nor a range`,
		"drop rank=0,,1":                  "is neither a number nor a range",
		"drop seq=4294967296":             "is neither a number nor a range",
		"drop after=x":                    "after=x is not a number from 0",
		"drop times=0":                    "times=0 is not a number from 1",
		"drop p=0":                        "p=0 is not a chance above 0 and up to 1, as in p=0.01",
		"drop p=1.1":                      "is not a chance",
		"drop p=NaN":                      "is not a chance",
		"partition=0|1 for=0s":            "for=0s is not a time above 0",
		"kill":                            "kill without rank= would end every rank: say which, as in rank=2",
		"stop call=1":                     "stop without rank=",
		"abort stage=lunch":               "stage=lunch is unknown; there are enter, input, reduce, up, down, output, leave",
		"abort comm=mine":                 "comm=mine is unknown; there are world, other, any",
		strings.Repeat("drop;", 257):      "more than 256 rules",
		strings.Repeat(" ", 64<<10) + ";": "65537 bytes of rules, at most 65536 are read",
		"drop rank=" + strings.Repeat("1,", 1024) + "1": "rank lists more than 1024 numbers and ranges",
	} {
		if p, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, %v; want an error with %q", text, p, err, want)
		}
	}
}

func TestCheckFindsRanks(t *testing.T) {
	for text, want := range map[string]string{
		"drop rank=0-3 peer=3":  "",
		"seed=1; kill rank=4":   `rule 1 "kill rank=4 stage=enter comm=world times=1": rank 4 does not exist, the ranks are 0 to 3`,
		"drop; drop peer=0,2-9": `rule 2 "drop peer=0,2-9": rank 9 does not exist`,
		"partition=0|7":         "rank 7 does not exist",
		"drop seq=100":          "",
	} {
		err := mustParse(t, text).Check(4)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: what is a plan is the same plan once it is written out; what is none is told with its rule.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "seed=42; drop", "delay=5ms rank=1 peer=2 p=0.1", "partial=512 rank=0 seq=9; reset after=100", "corrupt=3 p=1e-4 landing=1-2",
		"partition=0,1|2-3 after=10 for=2s", "kill rank=2 call=3 stage=reduce\npause=200ms comm=any p=0.5", "half-close times=2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if p != nil || err.Error() == "" {
				t.Errorf("got %v and %q", p, err)
			}
			return
		}
		again, err := Parse(p.String())
		if err != nil {
			t.Fatalf("%q is written %q: %v", text, p, err)
		}
		if len(p.rules) == 0 {
			again.seed = p.seed // not written
		}
		if !reflect.DeepEqual(p, again) {
			t.Errorf("%q is written %q, which is %q", text, p, again)
		}
	})
}
