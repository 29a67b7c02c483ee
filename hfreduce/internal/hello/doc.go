// SPDX-License-Identifier: Apache-2.0

// Package hello finds out who is on the other end of a TCP connection. One port per process takes all connections;
// the hello proves that the dialer belongs to the job and sorts the connection by [Purpose].
//
//	dialer                                        listener
//	hello: purpose, ranks, nonce, job tag, token ─▶
//	                                             ◀─ challenge: status, rank, nonce
//	proof: HMAC over hello and challenge         ─▶
//	                                             ◀─ verdict: status, rank, HMAC over everything before, text
//
// Every message but the proof begins with the 8 bytes that no version changes: magic "HFRD", protocol version, length of
// the rest. So two processes of different versions can always tell each other their version.
//
// The job id never travels: the hello carries HMAC(job id, nonce). The proofs are HMAC-SHA256 keyed by job id and
// secret; the nonces of both sides make a recorded hello worthless. The dialer proves itself first, so a stranger that
// dials learns nothing from which a secret could be guessed. Without a secret the same messages flow, but anybody who
// knows the job id can make them. The hello does not encrypt what follows it, and does not protect it against somebody
// who can change packets on the way.
//
// [TLS] does: with it the same messages travel within mutual TLS 1.3, and the proofs also cover a key of that connection. A
// dialer without TLS gets the answer in clear that there is TLS here; a listener without TLS answers a TLS client with
// a message of its own, the start of which the dialer's TLS hands out as what it could not read.
//
// Whoever does not speak the hello is a stranger: closed, counted by [Kind], and told to the log once for each kind. An
// HTTP request gets a 400, with TLS and without. Strangers have a deadline, each has its own goroutine, and when too many
// connections are unproven some are closed, chosen so that a crowd displaces itself (pending.go): they cannot hold up
// anybody else.
//
// Read on: hello.go (nouns), wire.go (messages), dial.go and admit.go (the two sides), tls.go, listener.go, pending.go,
// stranger.go, kind.go.
package hello
