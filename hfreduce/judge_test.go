// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
)

// trial is a dispute of world ranks 10, 11, 12 and 13, which are ranks 0 to 3 of the communicator.
func trial(r report, answers map[int]answer) *dispute {
	return &dispute{
		members: []int{10, 11, 12, 13}, reporter: 10, report: r, answers: answers, lost: map[int]string{},
		info: func(world int) RankInfo { return RankInfo{Host: fmt.Sprintf("h%d", world), PID: world * 100} },
	}
}

// waiting is a rank that is in collective 7 and waits for others.
func waiting(phase Phase, needs ...need) answer {
	calls := []made{{6, 600, "Barrier"}, {7, 700, "AllReduce float[9] sum"}}
	return answer{Seq: 7, Inside: true, Phase: phase, Call: calls[1].Call, Calls: calls, Needs: needs}
}

// stall is a report that nothing moved.
var stall = report{Kind: verdictTimeout, Seq: 7, Call: "AllReduce float[9] sum", Accused: -1, Text: "made no progress for 1s"}

const stalled = "collective 7, AllReduce float[9] sum, made no progress for 1s: "

// trials are disputes and what is to be said of them.
var trials = []struct {
	name     string
	dispute  *dispute
	kind     verdictKind
	culprits []int
	text     string
}{
	{"a rank has not called it", trial(stall, map[int]answer{
		10: waiting(PhaseInput, need{12, engine.ForInput}), 11: waiting(PhaseInput), 13: waiting(PhaseInput),
		12: {Seq: 6, Call: "Barrier", Calls: []made{{6, 600, "Barrier"}}},
	}), verdictTimeout, []int{2}, stalled + "rank 2 (host h12, pid 1200) has not called it: the program on it is elsewhere since collective 6, Barrier"},
	{"a rank has called nothing", trial(stall, map[int]answer{10: waiting(PhaseInput), 11: {}, 12: waiting(PhaseInput), 13: waiting(PhaseInput)}),
		verdictTimeout, []int{1}, "has not called it, nor any collective before"},
	{"a rank is behind", trial(stall, map[int]answer{
		10: waiting(PhaseInput), 12: waiting(PhaseInput), 13: waiting(PhaseInput), 11: {Seq: 6, Inside: true, Call: "Barrier", Phase: PhaseInput},
	}), verdictTimeout, []int{1}, "rank 1 (host h11, pid 1100) is still in collective 6, Barrier"},
	{"a process is stopped", trial(stall, map[int]answer{
		10: waiting(PhaseUp, need{13, engine.ForPartial}), 11: waiting(PhaseInput), 12: {Seq: 6, Mates: []sighting{{13, 7, PhaseReduce}}},
	}), verdictTimeout, []int{3}, stalled + "rank 3 (host h13, pid 1300) does not answer: its process is stopped or starved; it was last seen in collective 7: node reduce"},
	{"a stopped process that no mate saw", trial(stall, map[int]answer{
		10: waiting(PhaseUp, need{13, engine.ForPartial}), 11: waiting(PhaseInput), 12: waiting(PhaseInput),
	}), verdictTimeout, []int{3}, "rank 0 waits for its partial sum in collective 7"},
	{"a thread is held up", trial(stall, map[int]answer{
		10: waiting(PhaseInput), 11: waiting(PhaseInput), 12: waiting(PhaseInput), 13: {Seq: 7, Inside: true, Held: true, Phase: PhaseOutput},
	}), verdictTimeout, []int{3}, "is in the collective but its thread does not run; it was last seen in output (H2D)"},
	{"a GPU does not copy", trial(stall, map[int]answer{
		10: waiting(PhaseInput, need{11, engine.ForInput}), 12: waiting(PhaseInput), 13: waiting(PhaseInput),
		11: {Seq: 7, Inside: true, Device: true, Phase: PhaseInput, GPU: "0000:65:00.0"},
	}), verdictTimeout, []int{1}, "rank 1 (host h11, pid 1100, GPU 0000:65:00.0) waits for its GPU (input (D2H))"},
	{"a path does not carry", trial(stall, map[int]answer{
		10: waiting(PhaseUp, need{12, engine.ForPartial}), 11: waiting(PhaseInput), 12: waiting(PhaseUp), 13: waiting(PhaseInput),
	}), verdictTimeout, []int{2}, "all ranks are in it, and live: rank 0 (tree up) waits for its partial sum of rank 2"},
	{"a rank has closed", func() *dispute {
		d := trial(stall, map[int]answer{10: waiting(PhaseInput), 11: waiting(PhaseInput), 12: waiting(PhaseInput)})
		d.closed = []int{13}
		return d
	}(), verdictTimeout, []int{3}, "rank 3 (host h13, pid 1300) has closed the communicator"},
	{"two communicators in different orders", trial(stall, map[int]answer{
		10: waiting(PhaseInput, need{11, engine.ForInput}), 12: waiting(PhaseInput), 13: waiting(PhaseInput),
		11: {Elsewhere: &elsewhere{Comm: "B", Seq: 2, Call: "Barrier", Needs: []need{{10, engine.ForInput}}}},
	}), verdictMismatch, []int{0, 1}, "rank 0 waits in this one, rank 1 (host h11, pid 1100) waits for it in collective 2 of communicator B, Barrier"},
	{"another communicator that waits for nobody here", trial(stall, map[int]answer{
		10: waiting(PhaseInput), 12: waiting(PhaseInput), 13: waiting(PhaseInput),
		11: {Elsewhere: &elsewhere{Comm: "B", Seq: 2, Call: "Barrier", Needs: []need{{99, engine.ForInput}}}},
	}), verdictTimeout, []int{1}, "has not called it; it is in collective 2 of communicator B, Barrier"},

	{"dead, seen by a mate", func() *dispute {
		d := trial(report{Kind: verdictLost, Accused: 13, Text: "x"}, map[int]answer{
			10: waiting(PhaseInput), 11: waiting(PhaseInput), 12: {Seq: 7, Inside: true, Mates: []sighting{{13, 7, PhaseDown}}},
		})
		d.lost[13] = "its connection ended without a goodbye"
		return d
	}(), verdictLost, []int{3}, "rank 3 (host h13, pid 1300): its connection ended without a goodbye; it was last seen in collective 7: tree down"},
	{"two dead, whatever was reported", func() *dispute {
		d := trial(stall, map[int]answer{10: waiting(PhaseInput), 12: waiting(PhaseUp, need{13, engine.ForResult})})
		d.lost[13], d.lost[11] = "gone", "gone too"
		return d
	}(), verdictLost, []int{1, 3}, "rank 1 (host h11, pid 1100): gone too; nobody waits for it in a collective; rank 3 (host h13, pid 1300): gone; rank 2 waits for its result in collective 7"},
	{"a path that broke", trial(report{Kind: verdictLost, Accused: 12, Text: "no route"}, map[int]answer{10: {}, 11: {}, 12: {}, 13: {}}),
		verdictLost, []int{0, 2}, "the path between rank 0 (host h10, pid 1000) and rank 2 (host h12, pid 1200) broke: no route; both processes live"},
	{"a path to a rank that does not answer", trial(report{Kind: verdictLost, Accused: 12, Text: "no route"}, map[int]answer{10: {}, 11: {}, 13: {}}),
		verdictLost, []int{0, 2}, "broke: no route"},

	{"different calls", trial(report{Kind: verdictMismatch, Seq: 7, Accused: 11}, map[int]answer{
		10: waiting(PhaseInput), 12: waiting(PhaseInput), 13: {Seq: 6, Calls: []made{{6, 600, "Barrier"}}},
		11: {Seq: 7, Calls: []made{{6, 600, "Barrier"}, {7, 701, "AllReduce float[8] sum"}}},
	}), verdictMismatch, []int{1}, "collective 7: ranks 0, 2: AllReduce float[9] sum; rank 1: AllReduce float[8] sum"},
	{"the first difference counts", trial(report{Kind: verdictMismatch, Seq: 7, Accused: 11}, map[int]answer{
		10: waiting(PhaseInput), 11: {Seq: 6, Calls: []made{{6, 601, "Reduce"}}},
	}), verdictMismatch, []int{0, 1}, "collective 6: rank 0: Barrier; rank 1: Reduce"},
	{"the other side has forgotten", trial(report{Kind: verdictMismatch, Seq: 7, Call: "AllReduce", Accused: 11, Text: "rank 0 found another call of rank 1"}, map[int]answer{
		10: waiting(PhaseInput), 11: {Seq: 99, Calls: []made{{99, 1, "x"}}},
	}), verdictMismatch, []int{1}, "collective 7: rank 0: AllReduce; rank 0 found another call of rank 1"},

	{"different calls that broke a link", trial(report{Kind: verdictLost, Seq: 7, Accused: 11, Text: "connection reset by peer"}, map[int]answer{
		10: waiting(PhaseInput), 11: {Seq: 7, Calls: []made{{7, 701, "Broadcast"}}}, 12: waiting(PhaseInput), 13: waiting(PhaseInput),
	}), verdictMismatch, []int{1}, "collective 7: ranks 0, 2, 3: AllReduce float[9] sum; rank 1: Broadcast"},
	{"different calls that look like a fault", trial(report{Kind: verdictFault, Seq: 7, Accused: -1, Text: "protocol error"}, map[int]answer{
		10: waiting(PhaseInput), 11: {Seq: 7, Calls: []made{{7, 701, "Broadcast"}}}, 12: waiting(PhaseInput), 13: waiting(PhaseInput),
	}), verdictMismatch, []int{1}, "collective 7: ranks 0, 2, 3: AllReduce float[9] sum; rank 1: Broadcast"},
	{"corrupt data in different calls", trial(report{Kind: verdictCorrupt, Seq: 7, Accused: -1, Suspects: []int{13}, Text: "x"}, map[int]answer{
		10: waiting(PhaseInput), 11: {Seq: 7, Calls: []made{{7, 701, "Broadcast"}}},
	}), verdictCorrupt, []int{3}, "x"},

	{"who knows better", trial(stall, map[int]answer{
		10: waiting(PhaseInput), 12: {Broken: &verdict{Kind: verdictAborted, Rank: 12, Text: "enough"}},
	}), verdictAborted, nil, "enough"},
	{"corrupt data", trial(report{Kind: verdictCorrupt, Seq: 7, Call: "Barrier", Accused: -1, Suspects: []int{13, 11, 13, 99}, Text: "x"}, map[int]answer{10: {}, 11: {}, 12: {}, 13: {}}),
		verdictCorrupt, []int{1, 3}, "collective 7: Barrier: x"},
	{"a fault", trial(report{Kind: verdictFault, Accused: -1, Text: "no memory"}, map[int]answer{10: {}, 11: {}, 12: {}, 13: {}}),
		verdictFault, []int{0}, "rank 0 (host h10, pid 1000): no memory"},
	{"a link test that stalls", trial(report{Kind: verdictTimeout, Accused: -1, Call: "MeasureLink", Text: "latency of the link"}, map[int]answer{10: {}, 11: {}, 12: {}, 13: {}}),
		verdictTimeout, []int{0}, "rank 0 (host h10, pid 1000): latency of the link"},
}

func TestJudge(t *testing.T) {
	for _, c := range trials {
		t.Run(c.name, func(t *testing.T) {
			v := judge(c.dispute)
			var culprits []int
			for _, k := range v.Culprits {
				culprits = append(culprits, k.Rank)
			}
			if v.Kind != c.kind || !slices.Equal(culprits, c.culprits) || !strings.Contains(v.Text, c.text) {
				t.Errorf("got %v of ranks %v: %s\nwant %v of ranks %v with %q", v.Kind, culprits, v.Text, c.kind, c.culprits, c.text)
			}
		})
	}
}

// TestVerdictFitsIntoOneMessage judges the worst: all of a large world but one are stopped.
func TestVerdictFitsIntoOneMessage(t *testing.T) {
	d := trial(report{Kind: verdictTimeout, Seq: 7, Call: "AllReduce float[9] sum", Accused: -1}, map[int]answer{10: waiting(PhaseInput)})
	for m := 14; m < 10_000; m++ {
		d.members = append(d.members, m)
	}
	v := judge(d)
	if n := len(v.encode()); n > 16<<10 || len(v.Culprits) != maxCulprits || !strings.Contains(v.Text, "and 9981 more") {
		t.Errorf("%d bytes, %d culprits: %s", n, len(v.Culprits), v.Text)
	}
	if got := decodeVerdict(0, v.encode()); got.Text != v.Text || !slices.Equal(got.Culprits, v.Culprits) || got.Kind != v.Kind {
		t.Errorf("it travels as %+v", got)
	}
}

// TestJudgeHearsNonsense: no member can make the hub look at ranks that there are not.
func TestJudgeHearsNonsense(t *testing.T) {
	f := &processFabric{peers: make([]bootstrap.PeerInfo, 3)}
	for _, r := range []string{
		`{"Kind":"mismatch","Seq":1,"Accused":-1}`, `{"Kind":"mismatch","Seq":1,"Accused":9}`, `{"Kind":"lost","Accused":9}`, `{"Kind":"lost","Accused":-7}`,
		`{"Kind":"timeout","Seq":1,"Accused":-1}`, `{"Kind":"corrupt","Suspects":[-1,9]}`, `{"Kind":"gone","Accused":5}`,
	} {
		v := decodeVerdict(0, f.judge(bootstrap.Case{Members: []int{0, 1}, Reporter: 1, Report: r, Answers: map[int]string{
			0: `{"Seq":1,"Inside":true,"Needs":[{"Rank":77,"For":200},{"Rank":-1,"For":1},{"Rank":2,"For":1}],"Elsewhere":{"Needs":[{"Rank":-9}]},"Mates":[{"Rank":88}]}`,
			1: `{"Seq":1,"Inside":true}`,
		}}))
		if v.Text == "" || !v.Judged {
			t.Errorf("%s: %+v", r, v)
		}
	}
}

// TestAnswerFitsIntoOneMessage: a rank of a large node that has broken because of many others can still be read.
func TestAnswerFitsIntoOneMessage(t *testing.T) {
	a := waiting(PhaseInput)
	for r := range 512 {
		a.Mates = append(a.Mates, sighting{r, 1 << 30, PhaseInput})
		a.Needs = append(a.Needs, need{r, engine.ForInput})
	}
	for _, broken := range []*verdict{nil, {Kind: verdictLost, Rank: 1, Judged: true, Text: strings.Repeat("<", 16<<10)}} {
		a.Broken = broken
		var got answer
		if err := json.Unmarshal([]byte(a.encode()), &got); err != nil || len(a.encode()) > 16<<10 {
			t.Fatal(err)
		}
		if got.Seq != a.Seq || got.Inside != a.Inside || (got.Broken == nil) != (broken == nil) || broken != nil && got.Broken.Kind != verdictLost {
			t.Errorf("it travels as %+v", got)
		}
	}
	if len(a.Mates) != 512 {
		t.Error("encoding changed the answer")
	}
}
