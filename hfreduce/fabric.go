// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"time"

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
	// segment joins the ranks of a node in a segment of g.Bytes() bytes, this rank being the index-th of them, and returns it
	// with their bells.
	segment(ctx context.Context, name string, index int, ranks []int, g *engine.Geometry) (*hostmem.Segment, []wait.Bell, error)
	// transport makes the links to ranks on other nodes.
	transport() transport.Transport
	// tell sends a verdict or a notice on a communicator to all other ranks, without waiting.
	tell(scope string, v verdict)
	// listen calls f with every verdict, notice and loss, now and later, until the returned function is called.
	listen(f func(scope string, v verdict)) (cancel func())
	// report has a fault of a communicator judged: all members hear one verdict, within verdictWait as a rule. It does not wait.
	report(scope string, members []int, r report)
	// answering sets who answers what this rank knows of a report; it is called once.
	answering(f func(scope string, r report) (answer, bool))
	// judges returns the rank that judges.
	judges() int
	// rollCall finds out which of the members go on together: all that live and come before the patience of the first ends.
	rollCall(ctx context.Context, key string, members []int, patience time.Duration) (ranks []int, epoch int, err error)
	// strangers counts connections; refused has an entry for each kind.
	strangers() (accepted uint64, refused []RefusedStats)
	// policy says how ranks wait here.
	policy() wait.Policy
	// share returns with how many ranks, itself included, this one shares how many processors.
	share() (ranks, processors int)
	// close is called when the rank's last communicator closes.
	close(ctx context.Context) error
}
