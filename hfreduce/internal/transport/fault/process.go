// SPDX-License-Identifier: Apache-2.0

package fault

import "time"

// Process is what a plan has for one rank's process on one communicator. One goroutine uses it at a time.
type Process struct {
	plan  *Plan
	rank  int
	rules []int
	hits  []uint64  // by place in rules
	call  uint64    // number of the collective, from 1
	times [8]uint64 // that each stage has begun in the call, by its place in stages
}

// Act is what a process has to do now.
type Act struct {
	Action Action        // Kill, Stop, Abort or Pause
	Hold   time.Duration // of Pause
	Call   uint64        // number of the collective on its communicator
	Rule   string        // as Parse reads it
}

// Process returns what the plan has for a world rank on a communicator, which is the world's or another one; nil if there is
// nothing.
func (p *Plan) Process(rank int, world bool) *Process {
	comm := comms[1]
	if world {
		comm = comms[0]
	}
	s := &Process{plan: p, rank: rank}
	for i := range p.rules {
		if r := &p.rules[i]; r.action.ofProcess() && r.rank.has(uint64(rank)) && (r.comm == comm || r.comm == comms[2]) {
			s.rules = append(s.rules, i)
		}
	}
	if s.rules == nil {
		return nil
	}
	s.hits = make([]uint64, len(s.rules))
	return s
}

// At calls act with what is to be done as a stage begins in a collective of that number, in the order of the rules.
func (s *Process) At(call uint64, stage string, act func(Act)) {
	if call != s.call {
		s.call, s.times = call, [8]uint64{}
	}
	number := stageNumber(stage)
	s.times[number]++
	for k, i := range s.rules {
		r := &s.plan.rules[i]
		if r.stage != stage || !r.call.has(s.call) || r.times > 0 && s.hits[k] >= r.times ||
			!s.plan.chance(i, uint64(s.rank), s.call, number, s.times[number]) {
			continue
		}
		s.hits[k]++
		act(Act{Action: r.action, Hold: r.hold, Call: s.call, Rule: r.String()})
	}
}

// stageNumber returns the place of a stage in the list, or one behind it for what no rule can name.
func stageNumber(stage string) uint64 {
	for i, s := range stages {
		if s == stage {
			return uint64(i)
		}
	}
	return uint64(len(stages))
}
