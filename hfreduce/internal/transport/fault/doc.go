// SPDX-License-Identifier: Apache-2.0

// Package fault injects faults that a plan describes: a wrapper around any transport that delays, loses and spoils
// messages and breaks links, and moments at which a rank's process is to be killed, stopped or held up.
//
// # Language
//
// A plan is a row of rules, separated by ";" or line ends. A rule is an action, with an argument where it has one, and the
// conditions that must all hold, separated by spaces. What is not said holds always.
//
//	seed=42                               once in a plan: what chance depends on (default 1)
//
//	delay=5ms rank=1 peer=2 p=0.1         hold a message for so long, and what follows it on its link until it has left
//	drop rank=1 seq=17                    a message never arrives; it is reported Sent
//	reset rank=0 peer=1 after=100         the link breaks at both ends
//	half-close rank=0 peer=1 after=10     from then on nothing gets from rank 0 to rank 1 over the link; the other way works
//	partial=512 rank=0 seq=9              the first 512 bytes of a message land, at most, then the link is broken
//	corrupt=1 rank=0 seq=9                so many bits (1) of a message are flipped after it has landed
//	partition=0,1|2-3 after=10 for=2s     what crosses the border is held for 2 s; without for=, for ever
//
//	kill rank=2 call=3 stage=reduce       SIGKILL for the rank's own process
//	stop rank=2 call=3                    SIGSTOP for it
//	abort rank=2 call=3 stage=up          Comm.Abort
//	pause=200ms rank=2 p=0.05             the rank's goroutine is held for so long, or until its communicator breaks
//
// Conditions of messages:
//
//	rank=SET     world ranks that send; SET is a number, a range 4-7, or several with commas: 0,2,4-7
//	peer=SET     world ranks that receive
//	landing=SET  numbers of the receiver's landing areas: what a message is within its item
//	seq=SET      numbers of the item, which run on over the collectives of a communicator
//	after=N      the link has carried more than N messages of that direction, this one included
//	p=X          chance of each message, above 0 and up to 1
//	times=N      at most so often from one rank to another (default 1 for reset, partial and half-close)
//
// A partition takes only after= and for=. It begins, for each direction between two ranks across the border, with the first
// message of that direction that after= allows, holds the messages and grants of all links that the two have, and never
// comes again.
//
// Conditions of processes:
//
//	rank=SET     world ranks; kill and stop must have it
//	call=SET     numbers of the collective on its communicator, from 1
//	stage=NAME   enter (default), input, reduce, up, down, output or leave
//	comm=NAME    world (default): the communicator of Init or NewLocal; other: those made from it; any
//	p=X          chance of each time that the stage begins
//	times=N      at most so often on one communicator (default 1 for kill, stop and abort)
//
// # What is the same each time
//
// Whether p= hits a message follows from the seed, the number of the rule, the two ranks, which of their links it is, and the
// message's landing area and item; which bits corrupt flips, from the same. Time has no part in it. after= and times= count
// in the order in which messages are posted: it is the same each time if a link carries one flow, and may differ where
// several flows share it. delay, drop, reset, half-close, partial and partition are done by the sender, corrupt by the
// receiver, who counts what arrived: give all ranks the same plan.
package fault
