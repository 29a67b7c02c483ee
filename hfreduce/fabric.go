// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"encoding/json"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/hfreduce/internal/wait"
)

// fabric is what a rank's communicators need of the world around them. There are two: processes that met through
// package bootstrap (connect.go), and ranks that are goroutines of one process (local.go). Ranks are world ranks.
type fabric interface {
	// rank is this rank's number in the world.
	rank() int
	// info describes a rank; node tells which ranks share memory.
	info(rank int) (ri RankInfo, node string)
	// exchange gathers what each member gives, in the order of members. The key is used once.
	exchange(ctx context.Context, key string, members []int, mine []byte) ([][]byte, error)
	// segment joins the members of a node in a segment of g.Bytes() bytes, this rank being the index-th of size, and
	// returns it with the members' bells.
	segment(ctx context.Context, name string, index, size int, g *engine.Geometry) (*hostmem.Segment, []wait.Bell, error)
	// transport makes the links to ranks on other nodes.
	transport() transport.Transport
	// tell sends a verdict on a communicator to all ranks, without waiting.
	tell(scope string, v verdict)
	// listen calls f with every verdict and loss, now and later, until the returned function is called.
	listen(f func(scope string, v verdict)) (cancel func())
	// strangers counts connections.
	strangers() (accepted, refused uint64)
	// policy says how ranks wait here.
	policy() wait.Policy
	// share returns with how many ranks, itself included, this one shares how many processors.
	share() (ranks, processors int)
	// close is called when the rank's last communicator closes.
	close(ctx context.Context) error
}

// verdictKind says why a communicator broke.
type verdictKind string

const (
	verdictAborted  verdictKind = "aborted"
	verdictLost     verdictKind = "lost"
	verdictMismatch verdictKind = "mismatch"
	verdictTimeout  verdictKind = "timeout"
	verdictFault    verdictKind = "fault"
	// noticeWaiting is no verdict: the rank has waited for a while in a collective and says which.
	noticeWaiting verdictKind = "waiting"
)

// verdict is why a communicator broke, as it is told to all ranks. An empty scope means every communicator that the
// rank is part of.
type verdict struct {
	Kind verdictKind
	Rank int // world rank: for verdictLost the one that is gone, else the one that says so
	Text string
	Seq  uint64 `json:",omitempty"` // noticeWaiting: number of the collective
	Tag  uint32 `json:",omitempty"` // noticeWaiting: its fingerprint
}

func (v verdict) encode() string {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers always encode
		return v.Text
	}
	return string(b)
}

func decodeVerdict(rank int, text string) verdict {
	v := verdict{Kind: verdictAborted, Rank: rank, Text: text}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return verdict{Kind: verdictAborted, Rank: rank, Text: text}
	}
	return v
}

// sentinel returns the error that a verdict wraps.
func (k verdictKind) sentinel() error {
	switch k {
	case verdictLost:
		return ErrPeerLost
	case verdictMismatch:
		return ErrMismatch
	case verdictTimeout:
		return ErrTimeout
	}
	return ErrAborted
}
