// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/metrics"
)

// Register a communicator's counters; serve reg with promhttp.HandlerFor.
func ExampleNewCollector() {
	comms, err := hfreduce.NewLocal([]int{0}, hfreduce.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer comms[0].Close(context.Background())

	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics.NewCollector(comms[0].Stats))
	families, err := reg.Gather()
	fmt.Println(len(families) > 0, err)
	// Output: true <nil>
}
