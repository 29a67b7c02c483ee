// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/metrics"
)

// eachRank runs body on every communicator at once, as the ranks of a job would.
func eachRank(t *testing.T, comms []*hfreduce.Comm, body func(*hfreduce.Comm) error) {
	t.Helper()
	var ranks sync.WaitGroup
	for _, c := range comms {
		ranks.Go(func() {
			if err := body(c); err != nil {
				t.Errorf("rank %d: %v", c.Rank(), err)
			}
		})
	}
	ranks.Wait()
}

// TestCollectorOfComm scrapes ranks that have just summed something: two nodes of two ranks.
func TestCollectorOfComm(t *testing.T) {
	const calls, count = 3, 1000
	comms, err := hfreduce.NewLocal([]int{0, 0, 1, 1}, hfreduce.Options{})
	if err != nil {
		t.Fatal(err)
	}
	eachRank(t, comms, func(c *hfreduce.Comm) error {
		data := make([]float32, count)
		for range calls {
			if err := c.AllReduce(t.Context(), hfreduce.Host(data), hfreduce.Host(data), hfreduce.Sum); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range comms {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(metrics.NewCollector(c.Stats))
		want := fmt.Sprintf("# HELP %s Sizes of the buffers of the collectives that ended.\n# TYPE %[1]s counter\n", "hfreduce_collective_bytes_total")
		for _, kind := range []string{"allgather", "allreduce", "barrier", "broadcast", "reduce", "reducescatter"} {
			bytes := 0
			if kind == "allreduce" {
				bytes = calls * count * 4
			}
			want += fmt.Sprintf("hfreduce_collective_bytes_total{collective=%q} %d\n", kind, bytes)
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "hfreduce_collective_bytes_total"); err != nil {
			t.Errorf("rank %d: %v", c.Rank(), err)
		}
		if n, err := testutil.GatherAndCount(reg, "hfreduce_link_sent_bytes_total", "hfreduce_peers"); err != nil || n != 2 {
			t.Errorf("rank %d: %d series of links, want 2 (%v)", c.Rank(), n, err)
		}
	}
	eachRank(t, comms, func(c *hfreduce.Comm) error { return c.Close(t.Context()) })
}
