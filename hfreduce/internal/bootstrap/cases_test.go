// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// court runs a book of cases and notes what is sent.
type court struct {
	*cases
	gone map[int]*failure
	sent []string // "kind to: text"
	seen []Case
}

func newCourt() *court {
	c := &court{gone: map[int]*failure{}}
	c.cases = newCases(func(k Case) string {
		c.seen = append(c.seen, k)
		return fmt.Sprintf("%s of %d, answers %v, lost %v, closed %v", k.Report, k.Reporter, k.Answers, slices.Sorted(maps.Keys(k.Lost)), k.Closed)
	})
	return c
}

func (c *court) away(rank int) *failure { return c.gone[rank] }

func (c *court) note(t *testing.T, deliveries []delivery) {
	t.Helper()
	for _, d := range deliveries {
		k, body := kind(d.frame[4]), d.frame[frameHead:]
		if k == kindInquiry {
			id, k, err := parseInquiry(body)
			if err != nil {
				t.Fatal(err)
			}
			c.sent = append(c.sent, fmt.Sprintf("ask %v: %d %s %d %s", d.to, id, k.Scope, k.Reporter, k.Report))
			continue
		}
		_, scope, text, err := parseAbort(body)
		if err != nil || k != kindVerdict {
			t.Fatal(k, err)
		}
		c.sent = append(c.sent, fmt.Sprintf("tell %v: %s %s", d.to, scope, text))
	}
}

func (c *court) report(t *testing.T, rank int, scope, text string, members ...int) int {
	t.Helper()
	out, id := c.cases.report(Case{Scope: scope, Reporter: rank, Report: text, Members: members}, c.away)
	c.note(t, out)
	return id
}

func (c *court) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(c.sent, want) {
		t.Errorf("sent\n%q\nwant\n%q", c.sent, want)
	}
	c.sent = nil
}

func TestCaseEndsWithTheLastAnswer(t *testing.T) {
	c := newCourt()
	id := c.report(t, 2, "a", "stall", 0, 2, 5)
	c.want(t, "ask [0 2 5]: 1 a 2 stall")
	if again := c.report(t, 5, "a", "other", 0, 2, 5); again != 0 {
		t.Errorf("a second report opened case %d", again)
	}
	c.note(t, c.answer(5, id, "five"))
	c.note(t, c.answer(5, id, "twice"))
	c.note(t, c.answer(3, id, "no member"))
	c.note(t, c.answer(0, id+1, "another case"))
	c.note(t, c.answer(2, id, "two"))
	c.want(t)
	c.note(t, c.answer(0, id, "zero"))
	c.want(t, "tell [0 2 5]: a stall of 2, answers map[0:zero 2:two 5:five], lost [], closed []")
	c.report(t, 5, "a", "late", 0, 2, 5)
	c.note(t, c.answer(0, id, "late"))
	c.note(t, c.expire(id))
	c.want(t)
}

func TestCaseEndsWithoutTheSilentAndTheGone(t *testing.T) {
	c := newCourt()
	c.gone[1] = failuref(codeLost, "died before")
	c.gone[2] = failuref(codeClosed, "closed before")
	id := c.report(t, 0, "a", "stall", 0, 1, 2, 3, 4, 5)
	other := c.report(t, 0, "b", "stall", 0, 5)
	c.want(t, "ask [0 3 4 5]: 1 a 0 stall", "ask [0 5]: 2 b 0 stall")
	c.note(t, c.answer(0, id, "zero"))
	c.note(t, c.lose(3, failuref(codeLost, "dies")))
	c.note(t, c.lose(4, failuref(codeClosed, "closes")))
	c.want(t)
	c.note(t, c.expire(id))
	c.want(t, "tell [0 1 2 3 4 5]: a stall of 0, answers map[0:zero], lost [1 3], closed [2 4]")
	c.note(t, c.answer(0, other, "zero"))
	c.note(t, c.lose(5, failuref(codeLost, "dies")))
	c.want(t, "tell [0 5]: b stall of 0, answers map[0:zero], lost [5], closed []")
}

// TestCaseOfTheLast has nobody to wait for: a case can be judged at once.
func TestCaseOfTheLast(t *testing.T) {
	c := newCourt()
	c.gone[0] = failuref(codeLost, "died")
	c.gone[1] = failuref(codeLost, "died")
	c.report(t, 0, "a", "stall", 0, 1)
	if len(c.seen) != 1 || len(c.seen[0].Lost) != 2 {
		t.Errorf("judged were %+v", c.seen)
	}
}

// rollBook runs a book of roll calls.
type rollBook struct {
	*rolls
	gone map[int]*failure
}

func (b *rollBook) away(rank int) *failure { return b.gone[rank] }

// said words what ranks get to hear.
func said(t *testing.T, deliveries []delivery) (out []string) {
	t.Helper()
	for _, d := range deliveries {
		_, f, r, err := parseRoll(d.frame[frameHead:])
		if err != nil {
			t.Fatal(err)
		}
		if f != nil {
			out = append(out, fmt.Sprintf("%v: %s", d.to, f.text))
			continue
		}
		out = append(out, fmt.Sprintf("%v: %d %v %q", d.to, r.Epoch, r.Ranks, r.Parts))
	}
	return out
}

func TestRollCall(t *testing.T) {
	b := &rollBook{rolls: newRolls(0), gone: map[int]*failure{4: failuref(codeLost, "died")}}
	come := func(rank int) ([]string, int) {
		out, opened := b.come(rank, "k", []int{5, 1, 3, 4}, fmt.Append(nil, "p", rank), b.away)
		return said(t, out), opened
	}
	heard, first := come(1)
	if heard != nil || first == 0 {
		t.Fatal(heard, first)
	}
	if heard, opened := come(3); heard != nil || opened != 0 {
		t.Fatal(heard, opened)
	}
	b.gone[5] = failuref(codeLost, "dies")
	if got := said(t, b.rolls.lose(5, b.away)); !slices.Equal(got, []string{`[1 3]: 1 [1 3] ["p1" "p3"]`}) {
		t.Fatal(got)
	}
	if got := said(t, b.expire(first)); got != nil {
		t.Error("the end came twice", got)
	}
	// Those who were there may call again; rank 3 does not come in time.
	if heard, opened := come(1); heard != nil || opened == 0 {
		t.Fatal(heard, opened)
	} else if got := said(t, b.expire(opened)); !slices.Equal(got, []string{`[1]: 2 [1] ["p1"]`}) {
		t.Fatal(got)
	}
	if heard, _ := come(3); !slices.Equal(heard, []string{"[3]: the other ranks have gone on without rank 3, which did not come in time"}) {
		t.Error(heard)
	}
	if heard, _ := b.come(7, "other", []int{1}, nil, b.away); !slices.Equal(said(t, heard), []string{"[7]: rank 7 is no member: rank 1"}) {
		t.Error(said(t, heard))
	}
}

// TestRollCallOfNobody: all who came are gone before the end.
func TestRollCallOfNobody(t *testing.T) {
	b := &rollBook{rolls: newRolls(0), gone: map[int]*failure{}}
	if _, opened := b.come(1, "k", []int{0, 1}, nil, b.away); opened == 0 {
		t.Fatal("it did not begin")
	}
	for _, rank := range []int{1, 0} {
		b.gone[rank] = failuref(codeLost, "died")
		if out := b.rolls.lose(rank, b.away); out != nil {
			t.Error(said(t, out))
		}
	}
	if len(b.rolls.open) > 0 {
		t.Error("it is open for ever")
	}
}

// TestRollCallWithdrawn: a rank that does not wait any more is not taken along, unless it has been already.
func TestRollCallWithdrawn(t *testing.T) {
	b := &rollBook{rolls: newRolls(0), gone: map[int]*failure{}}
	members := []int{1, 3}
	if _, opened := b.come(1, "k", members, nil, b.away); opened == 0 {
		t.Fatal("it did not begin")
	}
	if got := said(t, b.withdraw(3, "k")); got != nil {
		t.Error("who had not come was told", got)
	}
	if got := said(t, b.withdraw(1, "k")); !slices.Equal(got, []string{"[1]: rank 1 has withdrawn"}) {
		t.Error(got)
	}
	if got, _ := b.come(3, "k", members, nil, b.away); got != nil {
		t.Error("it ended without rank 1", said(t, got))
	}
	if got, _ := b.come(1, "k", members, nil, b.away); !slices.Equal(said(t, got), []string{`[1 3]: 1 [1 3] ["" ""]`}) {
		t.Error(said(t, got))
	}
	if got := said(t, b.withdraw(1, "k")); got != nil {
		t.Error("it was over, and rank 1 was told", got)
	}
}
