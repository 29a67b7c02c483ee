// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"strconv"
	"strings"
)

// String returns the plan as Parse reads it, "" for one without rules.
func (p *Plan) String() string {
	if len(p.rules) == 0 {
		return ""
	}
	parts := []string{fmt.Sprintf("seed=%d", p.seed)}
	for i := range p.rules {
		parts = append(parts, p.rules[i].String())
	}
	return strings.Join(parts, "; ")
}

// String returns the rule as Parse reads it.
func (r *rule) String() string {
	b := []byte(r.action)
	add := func(set bool, format string, args ...any) {
		if set {
			b = fmt.Appendf(b, format, args...)
		}
	}
	add(r.action == Delay || r.action == Pause, "=%v", r.hold)
	add(r.action == Partial || r.action == Corrupt, "=%d", r.amount)
	add(r.action == Partition, "=%v|%v", r.sides[0], r.sides[1])
	for _, s := range [...]struct {
		key  string
		list set
	}{{"rank", r.rank}, {"peer", r.peer}, {"landing", r.landing}, {"seq", r.seq}, {"call", r.call}} {
		add(s.list != nil, " %s=%v", s.key, s.list)
	}
	add(r.stage != "", " stage=%s", r.stage)
	add(r.comm != "", " comm=%s", r.comm)
	add(r.after > 0, " after=%d", r.after)
	add(r.p < 1, " p=%s", strconv.FormatFloat(r.p, 'g', -1, 64))
	add(r.times > 0, " times=%d", r.times)
	add(r.heal > 0, " for=%v", r.heal)
	return string(b)
}

// String lists the set as the language does.
func (s set) String() string {
	var b []byte
	for i, x := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, x.lo, 10)
		if x.hi > x.lo {
			b = append(b, '-')
			b = strconv.AppendUint(b, x.hi, 10)
		}
	}
	return string(b)
}
