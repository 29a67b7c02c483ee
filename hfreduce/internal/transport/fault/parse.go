// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a plan, so that a text that is no plan costs little.
const (
	maxText  = 64 << 10
	maxRules = 256
	maxSpans = 1024
	maxBits  = 4096
	maxHold  = 24 * time.Hour
)

// form says how an action is written.
type form struct {
	action  Action
	arg     func(r *rule, text string) error // nil: none
	example string                           // of the argument; "" where it may be left out
	keys    []string
	once    bool // times=1 unless it is given
}

// Conditions, as forms list them.
var (
	messageKeys   = []string{"rank", "peer", "landing", "seq", "after", "p", "times"}
	processKeys   = []string{"rank", "call", "stage", "comm", "p", "times"}
	partitionKeys = []string{"after", "for"}
)

// The names that stage= and comm= take.
var (
	stages = []string{"enter", "input", "reduce", "up", "down", "output", "leave"}
	comms  = []string{"world", "other", "any"}
)

// forms is the language.
func forms() []form {
	return []form{
		{Delay, holdFor, "5ms", messageKeys, false},
		{Drop, nil, "", messageKeys, false},
		{Reset, nil, "", messageKeys, true},
		{HalfClose, nil, "", messageKeys, true},
		{Partial, landedBytes, "512", messageKeys, true},
		{Corrupt, flippedBits, "", messageKeys, false},
		{Partition, border, "0,1|2,3", partitionKeys, false},
		{Kill, nil, "", processKeys, true},
		{Stop, nil, "", processKeys, true},
		{Abort, nil, "", processKeys, true},
		{Pause, holdFor, "200ms", processKeys, false},
	}
}

// Parse reads a plan. An empty text is a plan without rules. The error names the rule and what would be right.
func Parse(text string) (*Plan, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%d bytes of rules, at most %d are read", len(text), maxText)
	}
	p, seeded := &Plan{seed: 1}, false
	number := 0
	for clause := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ';' || c == '\n' }) {
		words := strings.Fields(clause)
		if len(words) == 0 {
			continue
		}
		if number++; number > maxRules {
			return nil, fmt.Errorf("more than %d rules", maxRules)
		}
		fail := func(err error) error { return fmt.Errorf("rule %d %q: %w", number, strings.Join(words, " "), err) }
		if seed, found := strings.CutPrefix(words[0], "seed="); found {
			n, err := strconv.ParseUint(seed, 10, 64)
			switch {
			case err != nil || len(words) > 1:
				return nil, fail(errors.New("a seed is a number from 0 and stands alone, as in seed=42"))
			case seeded:
				return nil, fail(errors.New("there is a seed already; give one"))
			}
			p.seed, seeded = n, true
			continue
		}
		r, err := parseRule(words)
		if err != nil {
			return nil, fail(err)
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// parseRule reads the words of a rule.
func parseRule(words []string) (rule, error) {
	name, arg, hasArg := strings.Cut(words[0], "=")
	all := forms()
	i := slices.IndexFunc(all, func(f form) bool { return string(f.action) == name })
	if i < 0 {
		var names []string
		for _, f := range all {
			names = append(names, string(f.action))
		}
		return rule{}, fmt.Errorf("there is no action %q; there are seed, %s", name, strings.Join(names, ", "))
	}
	f := all[i]
	r := rule{action: f.action, p: 1, amount: 1}
	switch {
	case hasArg && f.arg == nil:
		return r, fmt.Errorf("%s takes no argument: leave out %q", name, "="+arg)
	case !hasArg && f.example != "":
		return r, fmt.Errorf("%s needs an argument, as in %s=%s", name, name, f.example)
	case hasArg:
		if err := f.arg(&r, arg); err != nil {
			return r, err
		}
	}
	given := map[string]bool{}
	for _, word := range words[1:] {
		key, value, found := strings.Cut(word, "=")
		switch {
		case !found || !slices.Contains(f.keys, key):
			return r, fmt.Errorf("%q is no condition of %s; it takes %s, each as NAME=VALUE", word, name, strings.Join(f.keys, ", "))
		case given[key]:
			return r, fmt.Errorf("%s= stands there twice", key)
		}
		given[key] = true
		if err := r.condition(key, value); err != nil {
			return r, err
		}
	}
	return r, r.complete(&f, given)
}

// complete fills in the defaults and checks what belongs together.
func (r *rule) complete(f *form, given map[string]bool) error {
	if f.once && !given["times"] {
		r.times = 1
	}
	if r.action.ofProcess() {
		if !given["stage"] {
			r.stage = stages[0]
		}
		if !given["comm"] {
			r.comm = comms[0]
		}
	}
	if (r.action == Kill || r.action == Stop) && r.rank == nil {
		return fmt.Errorf("%s without rank= would end every rank: say which, as in rank=2", r.action)
	}
	return nil
}

// condition reads NAME=VALUE.
func (r *rule) condition(key, value string) (err error) {
	switch key {
	case "rank":
		r.rank, err = parseSet(key, value)
	case "peer":
		r.peer, err = parseSet(key, value)
	case "landing":
		r.landing, err = parseSet(key, value)
	case "seq":
		r.seq, err = parseSet(key, value)
	case "call":
		r.call, err = parseSet(key, value)
	case "stage":
		r.stage, err = oneOf(key, value, stages)
	case "comm":
		r.comm, err = oneOf(key, value, comms)
	case "after":
		if r.after, err = strconv.ParseUint(value, 10, 63); err != nil {
			err = fmt.Errorf("after=%s is not a number from 0", value)
		}
	case "times":
		if r.times, err = strconv.ParseUint(value, 10, 63); err != nil || r.times == 0 {
			err = fmt.Errorf("times=%s is not a number from 1", value)
		}
	case "p":
		if r.p, err = strconv.ParseFloat(value, 64); err != nil || !(r.p > 0 && r.p <= 1) {
			err = fmt.Errorf("p=%s is not a chance above 0 and up to 1, as in p=0.01", value)
		}
	case "for":
		r.heal, err = parseHold("for", value)
	}
	return err
}

func oneOf(key, value string, names []string) (string, error) {
	if !slices.Contains(names, value) {
		return "", fmt.Errorf("%s=%s is unknown; there are %s", key, value, strings.Join(names, ", "))
	}
	return value, nil
}

// parseSet reads numbers and ranges, separated by commas.
func parseSet(what, text string) (s set, err error) {
	for part := range strings.SplitSeq(text, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		if !ranged {
			hi = lo
		}
		x := span{}
		x.lo, err = strconv.ParseUint(lo, 10, 32)
		if err == nil {
			x.hi, err = strconv.ParseUint(hi, 10, 32)
		}
		if err != nil || x.lo > x.hi {
			return nil, fmt.Errorf("%s=%s: %q is neither a number nor a range, as in %[1]s=0,2,4-7", what, text, part)
		}
		if s = append(s, x); len(s) > maxSpans {
			return nil, fmt.Errorf("%s lists more than %d numbers and ranges", what, maxSpans)
		}
	}
	return s, nil
}

func parseHold(what, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxHold {
		return 0, fmt.Errorf("%s=%s is not a time above 0 and up to %v, as in %[1]s=5ms", what, text, maxHold)
	}
	return d, nil
}

func holdFor(r *rule, text string) (err error) {
	r.hold, err = parseHold(string(r.action), text)
	return err
}

func landedBytes(r *rule, text string) (err error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("partial=%s is not a number of bytes from 0 to %d", text, math.MaxInt32)
	}
	r.amount = int(n)
	return nil
}

func flippedBits(r *rule, text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < 1 || n > maxBits {
		return fmt.Errorf("corrupt=%s is not a number of bits from 1 to %d", text, maxBits)
	}
	r.amount = int(n)
	return nil
}

// border reads the two sides of a partition, which must not share a rank.
func border(r *rule, text string) (err error) {
	left, right, found := strings.Cut(text, "|")
	if !found {
		return fmt.Errorf("partition=%s has no border; list the ranks of both sides, as in partition=0,1|2,3", text)
	}
	for i, side := range []string{left, right} {
		if r.sides[i], err = parseSet("partition", side); err != nil {
			return err
		}
	}
	for _, a := range r.sides[0] {
		for _, b := range r.sides[1] {
			if a.lo <= b.hi && b.lo <= a.hi {
				return fmt.Errorf("rank %d is on both sides of the partition", max(a.lo, b.lo))
			}
		}
	}
	return nil
}
