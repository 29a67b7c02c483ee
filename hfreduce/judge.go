// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
)

// dispute is all that is known of a fault. Ranks are world ranks.
type dispute struct {
	members  []int
	reporter int
	report   report
	answers  map[int]answer // of the members that answered
	lost     map[int]string // members that are gone, and how that was seen
	closed   []int          // members that have closed the communicator, or their process's last one
	info     func(world int) RankInfo
}

// judge decides what happened. It depends on the dispute alone.
//
//  1. who has heard why the communicator broke knows better
//  2. the dead: whatever else was reported follows from it
//  3. different calls
//  4. who does not answer, is not in the collective, or does not move, in this order: each explains those after it
//  5. a path between two ranks that both live
//
// Corrupt data is what it is reported to be, unless 1 or 2 explain it.
func judge(d *dispute) verdict {
	for _, m := range d.members {
		if a, ok := d.answers[m]; ok && a.Broken != nil {
			return *a.Broken
		}
	}
	if len(d.lost) > 0 {
		return d.dead()
	}
	first, differ := d.difference()
	switch k := d.report.Kind; {
	case k == verdictMismatch && d.report.Seq > 0, k != verdictCorrupt && differ:
		return d.mismatch(first, differ)
	case k == verdictTimeout:
		return d.missing()
	case k == verdictLost:
		return d.path()
	case k == verdictCorrupt:
		return d.corrupt()
	}
	return d.verdict(d.report.Kind, []Culprit{d.culprit(d.reporter)}, fmt.Sprintf("%v: %s", d.name(d.reporter), d.report.Text))
}

func (d *dispute) verdict(k verdictKind, culprits []Culprit, text string) verdict {
	slices.SortFunc(culprits, func(a, b Culprit) int { return a.Rank - b.Rank })
	return verdict{Kind: k, Rank: d.reporter, Judged: true, Culprits: culprits[:min(len(culprits), maxCulprits)], Text: text}
}

// rank returns a member's rank in the communicator.
func (d *dispute) rank(world int) int { return slices.Index(d.members, world) }

// name names a member's process.
func (d *dispute) name(world int) string {
	return nameOf(d.rank(world), d.info(world), d.answers[world].GPU)
}

// nameOf names a process: "rank 3 (host a, pid 7, GPU 0000:01:00.0)".
func nameOf(rank int, i RankInfo, gpu string) string {
	s := fmt.Sprintf("rank %d (host %s, pid %d", rank, i.Host, i.PID)
	if gpu != "" {
		s += ", GPU " + gpu
	}
	return s + ")"
}

// culprit describes a member as it was last seen.
func (d *dispute) culprit(world int) Culprit {
	i := d.info(world)
	c := Culprit{Rank: d.rank(world), Host: i.Host, PID: i.PID}
	if a, ok := d.answers[world]; ok {
		c.GPU, c.Seq, c.Phase = a.GPU, a.Seq, a.Phase
		if !a.Inside {
			c.Phase = PhaseOutside
		}
		return c
	}
	c.Seq, c.Phase = d.seen(world)
	_, c.Lost = d.lost[world]
	return c
}

// seen returns where a member that cannot say so was last seen: by the ranks of its node in their segment, or else by those
// that wait for what it should have sent.
func (d *dispute) seen(world int) (seq uint64, phase Phase) {
	for _, m := range d.members {
		for _, s := range d.answers[m].Mates {
			if s.Rank == world && s.Seq >= seq {
				seq, phase = s.Seq, s.Phase
			}
		}
	}
	return seq, phase
}

// each calls f with what the members did, by rank.
func (d *dispute) each(f func(world int, a answer, answered bool)) {
	for _, m := range d.members {
		a, ok := d.answers[m]
		f(m, a, ok)
	}
}

// dead is the verdict when members are gone.
func (d *dispute) dead() verdict {
	var gone []int
	for _, m := range d.members {
		if _, lost := d.lost[m]; lost {
			gone = append(gone, m)
		}
	}
	culprits, text := d.blame(gone, func(m int, c Culprit) string {
		return fmt.Sprintf("%s: %s; %s", d.name(m), d.lost[m], d.lastSeen(m, c))
	})
	return d.verdict(verdictLost, culprits, text)
}

// blame describes members, the first of them in words. A verdict of a large world is bounded, and so is what it takes.
func (d *dispute) blame(ranks []int, describe func(m int, c Culprit) string) (culprits []Culprit, text string) {
	var texts []string
	for i, m := range ranks[:min(len(ranks), maxCulprits)] {
		c := d.culprit(m)
		culprits = append(culprits, c)
		if i < maxTexts {
			texts = append(texts, describe(m, c))
		}
	}
	return culprits, joined(texts, len(ranks))
}

// lastSeen words where a member was last seen, or what it owes.
func (d *dispute) lastSeen(world int, c Culprit) string {
	switch {
	case c.Phase == PhaseOutside && c.Seq == 0:
		return "it had not entered a collective"
	case c.Phase == PhaseOutside:
		return fmt.Sprintf("it was last seen outside, after collective %d", c.Seq)
	case c.Phase != PhaseUnknown:
		return fmt.Sprintf("it was last seen in collective %d: %s", c.Seq, c.Phase)
	}
	for _, m := range d.members {
		for _, n := range d.answers[m].Needs {
			if n.Rank == world {
				return fmt.Sprintf("rank %d waits for %v in collective %d", d.rank(m), n.For, d.answers[m].Seq)
			}
		}
	}
	return "nobody waits for it in a collective"
}

// difference returns the first collective in which members are known to have made different calls. Whoever meets one may see
// something else in it: a message that nobody should send, a link that broke over that, or nothing at all.
func (d *dispute) difference() (first uint64, found bool) {
	first = math.MaxUint64
	tags := map[uint64]uint32{} // of the collectives, as the first member told them
	d.each(func(_ int, a answer, _ bool) {
		for _, m := range a.Calls {
			if tag, known := tags[m.Seq]; known && tag != m.Tag {
				first = min(first, m.Seq)
			} else {
				tags[m.Seq] = m.Tag
			}
		}
	})
	return first, first != math.MaxUint64
}

// mismatch is the verdict when members made different calls: about the first collective in which they did, if it is known. Who
// has not made it yet is on no side.
func (d *dispute) mismatch(first uint64, known bool) verdict {
	if !known { // the other side has forgotten it, or does not answer
		var culprits []Culprit
		if d.report.Accused >= 0 {
			culprits = append(culprits, d.culprit(d.report.Accused))
		}
		return d.verdict(verdictMismatch, culprits, fmt.Sprintf("collective %d: rank %d: %s; %s",
			d.report.Seq, d.rank(d.reporter), d.report.Call, d.report.Text))
	}
	sides, calls := map[uint32][]int{}, map[uint32]string{}
	d.each(func(world int, a answer, _ bool) {
		for _, m := range a.Calls {
			if m.Seq == first {
				sides[m.Tag] = append(sides[m.Tag], d.rank(world))
				calls[m.Tag] = cmp.Or(calls[m.Tag], m.Call)
			}
		}
	})
	order := slices.SortedFunc(maps.Keys(sides), func(a, b uint32) int { return cmp.Compare(sides[a][0], sides[b][0]) })
	usual, all := order[0], 0
	var texts []string
	for _, tag := range order {
		texts = append(texts, fmt.Sprintf("%s: %s", bootstrap.FormatRanks(sides[tag]), calls[tag]))
		if all += len(sides[tag]); len(sides[tag]) > len(sides[usual]) {
			usual = tag
		}
	}
	var culprits []Culprit
	for _, tag := range order {
		for _, rank := range sides[tag] {
			if tag != usual || 2*len(sides[usual]) <= all { // without a majority everybody may be wrong
				culprits = append(culprits, d.culprit(d.members[rank]))
			}
		}
	}
	return d.verdict(verdictMismatch, culprits, fmt.Sprintf("collective %d: %s", first, joined(texts, len(texts))))
}

// corrupt is the verdict on data that was not what had been sent, or on results that differ.
func (d *dispute) corrupt() verdict {
	var culprits []Culprit
	for _, m := range d.report.Suspects {
		if slices.Contains(d.members, m) && !slices.ContainsFunc(culprits, func(c Culprit) bool { return c.Rank == d.rank(m) }) {
			culprits = append(culprits, d.culprit(m))
		}
	}
	return d.verdict(verdictCorrupt, culprits, fmt.Sprintf("collective %d: %s: %s", d.report.Seq, d.report.Call, d.report.Text))
}

// missing is the verdict when nothing has moved for too long.
func (d *dispute) missing() verdict {
	var silent, absent, held, device []int
	d.each(func(m int, a answer, ok bool) {
		switch {
		case slices.Contains(d.closed, m):
			absent = append(absent, m)
		case !ok:
			silent = append(silent, m)
		case a.Held:
			held = append(held, m)
		case a.Seq < d.report.Seq:
			absent = append(absent, m)
		case a.Device:
			device = append(device, m)
		}
	})
	what := d.report.Text // of what is no collective
	if d.report.Seq > 0 {
		what = fmt.Sprintf("collective %d, %s, %s", d.report.Seq, d.report.Call, what)
	}
	blame := func(ranks []int, text func(m int, c Culprit) string) verdict {
		culprits, all := d.blame(ranks, func(m int, c Culprit) string { return d.name(m) + " " + text(m, c) })
		return d.verdict(verdictTimeout, culprits, what+": "+all)
	}
	switch {
	case len(silent) > 0:
		return blame(silent, func(m int, c Culprit) string {
			return "does not answer: its process is stopped or starved; " + d.lastSeen(m, c)
		})
	case len(absent) > 0:
		if v, ok := d.crossed(absent, what); ok {
			return v
		}
		return blame(absent, d.absence)
	case len(held) > 0:
		return blame(held, func(m int, c Culprit) string {
			return fmt.Sprintf("is in the collective but its thread does not run; it was last seen in %s", c.Phase)
		})
	case d.report.Seq == 0:
		return d.verdict(verdictTimeout, []Culprit{d.culprit(d.reporter)}, d.name(d.reporter)+": "+what)
	case len(device) > 0:
		return blame(device, func(m int, c Culprit) string {
			return fmt.Sprintf("waits for its GPU (%s): what its stream was given before the call, or the copies, have not been done", c.Phase)
		})
	}
	return d.stuck(what)
}

// absence says what a member does instead of the collective.
func (d *dispute) absence(m int, c Culprit) string {
	a := d.answers[m]
	switch {
	case slices.Contains(d.closed, m):
		return "has closed the communicator"
	case a.Inside:
		return fmt.Sprintf("is still in collective %d, %s", a.Seq, a.Call)
	case a.Elsewhere != nil:
		return fmt.Sprintf("has not called it; it is in collective %d of communicator %s, %s", a.Elsewhere.Seq, a.Elsewhere.Comm, a.Elsewhere.Call)
	case a.Seq == 0:
		return "has not called it, nor any collective before: the program on it does not get there"
	}
	return fmt.Sprintf("has not called it: the program on it is elsewhere since collective %d, %s", a.Seq, a.Call)
}

// crossed is the verdict when an absent member waits, in another communicator, for one that waits for it here.
func (d *dispute) crossed(absent []int, what string) (verdict, bool) {
	for _, m := range absent {
		e := d.answers[m].Elsewhere
		if e == nil {
			continue
		}
		for _, n := range e.Needs {
			if a, ok := d.answers[n.Rank]; ok && a.Inside && a.Seq == d.report.Seq && d.rank(n.Rank) >= 0 {
				return d.verdict(verdictMismatch, []Culprit{d.culprit(m), d.culprit(n.Rank)}, fmt.Sprintf(
					"%s: communicators are called in different orders: rank %d waits in this one, %s waits for it in collective %d of communicator %s, %s",
					what, d.rank(n.Rank), d.name(m), e.Seq, e.Comm, e.Call)), true
			}
		}
	}
	return verdict{}, false
}

// stuck is the verdict when all members are in the collective and none can move: what lies between them does not.
func (d *dispute) stuck(what string) verdict {
	var culprits []Culprit
	var texts []string
	d.each(func(m int, a answer, ok bool) {
		for _, n := range a.Needs {
			culprits = append(culprits, d.culprit(n.Rank))
			texts = append(texts, fmt.Sprintf("rank %d (%s) waits for %v of rank %d", d.rank(m), a.Phase, n.For, d.rank(n.Rank)))
		}
	})
	slices.SortFunc(culprits, func(a, b Culprit) int { return a.Rank - b.Rank })
	culprits = slices.CompactFunc(culprits, func(a, b Culprit) bool { return a.Rank == b.Rank })
	if len(texts) == 0 {
		texts = append(texts, "no rank waits any more: it was about to move")
	}
	return d.verdict(verdictTimeout, culprits, what+": all ranks are in it, and live: "+joined(texts, len(texts)))
}

// path is the verdict when a link broke whose ends both live.
func (d *dispute) path() verdict {
	if d.report.Accused < 0 {
		return d.verdict(verdictLost, []Culprit{d.culprit(d.reporter)}, fmt.Sprintf("%s: %s", d.name(d.reporter), d.report.Text))
	}
	text := fmt.Sprintf("the path between %s and %s broke: %s", d.name(d.reporter), d.name(d.report.Accused), d.report.Text)
	if _, answered := d.answers[d.report.Accused]; answered {
		text += "; both processes live"
	}
	return d.verdict(verdictLost, []Culprit{d.culprit(d.reporter), d.culprit(d.report.Accused)}, text)
}

// Bounds of what a verdict says: it travels in one message.
const (
	maxCulprits = 64
	maxTexts    = 8
)

// joined lists the first of total texts.
func joined(texts []string, total int) string {
	texts = texts[:min(len(texts), maxTexts)]
	all := strings.Join(texts, "; ")
	if more := total - len(texts); more > 0 {
		all += fmt.Sprintf("; and %d more", more)
	}
	return all
}
