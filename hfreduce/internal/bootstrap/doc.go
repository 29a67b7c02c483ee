// SPDX-License-Identifier: Apache-2.0

// Package bootstrap lets the ranks of a job meet, gives them a channel for small exchanges, and tells everybody when
// somebody is lost or aborts.
//
// [Detect] finds rank, world size and meeting point in the launcher's environment. [Join] blocks until all ranks have
// met: rank 0 listens on the first candidate address that is free, the others dial the candidates in turn until rank 0
// answers or the deadline ends. Every connection begins with a hello (package hello), so strangers and other jobs are
// turned away before they are seen here.
//
//	rank r                           rank 0 (hub)
//	hello: who am I, my addresses ─▶
//	                              ◀─ waiting: who is missing (repeated)
//	                              ◀─ table: all ranks, their hosts, pids, addresses    or    failed: why
//	exchange, abort, goodbye      ─▶
//	                              ◀─ result, abort, lost, goodbye
//	report of a fault             ─▶
//	                              ◀─ what do you know?  (to all members)
//	answer                        ─▶
//	                              ◀─ verdict, the same for all members
//
// The connections stay up as the control channel, a star around rank 0. A connection that ends without a goodbye means
// that its rank is lost, and all others are told at once ([Event]); a host that vanished without a word is noticed by
// both ends of its connections within Config.Heartbeat (heartbeat.go), while a process that is stopped on a living host is
// not. Rank 0 talks to its hub through a pipe in memory, so all ranks run the same code.
//
// When rank 0 is lost, the lowest rank that is left takes its place (succession.go).
//
// # What fails, and how
//
// Two processes that claim one rank, or ranks that disagree on the world size, fail the whole rendezvous at once, on
// every rank that has arrived, and the text names hosts and pids of both: which of the two is the right one cannot be
// known, and a job that goes on with the wrong one computes something else than was asked for. Once all ranks have met,
// a late double is turned away and the job goes on. A rank whose connection ends before all have met counts as missing
// again, so a restarted process can take its place.
//
// Read on: config.go, join.go, hub.go (rank 0's side), session.go (every rank's side), cases.go and roll.go (verdicts, who
// goes on), env.go, launchers.go and pmi.go (launchers).
package bootstrap
