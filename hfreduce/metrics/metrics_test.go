// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/metrics"
	"github.com/hfreduce/hfreduce/internal/golden"
)

// buckets is a histogram of two bounds.
func buckets(quick, slow uint64) []hfreduce.Bucket {
	return []hfreduce.Bucket{{UpperSeconds: 0.001, Count: quick}, {UpperSeconds: 0.25, Count: slow}}
}

// sample has a different number in every field, so that no two can be swapped unseen.
func sample() hfreduce.Stats {
	return hfreduce.Stats{
		Collectives: []hfreduce.CollectiveStats{
			{Name: "allreduce", Calls: 12, Errors: 1, Bytes: 4096, Seconds: 0.75, Buckets: buckets(3, 11)},
			{Name: "barrier", Calls: 7, Errors: 2, Bytes: 0, Seconds: 0.0625, Buckets: buckets(5, 7)},
			{Name: "broadcast", Buckets: buckets(0, 0)},
		},
		Links: []hfreduce.LinkStats{
			{Transport: "tcp", Peers: 3, SentBytes: 1001, ReceivedBytes: 1002, SentMessages: 21, ReceivedMessages: 22},
			{Transport: "mem", Peers: 4, SentBytes: 2001, ReceivedBytes: 2002, SentMessages: 31, ReceivedMessages: 32},
		},
		Device: &hfreduce.DeviceStats{
			FilledBytes: 1 << 33, DrainedBytes: 1 << 34, FillSeconds: 1.5, ReduceSeconds: 2.5, NetworkSeconds: 3.5, DrainSeconds: 4.5,
		},
		AllocatedBytes: 65536, SegmentBytes: 1 << 40,
		ConnectionsAccepted: 17, ConnectionsRefused: 19, Refused: []hfreduce.RefusedStats{{Kind: "http", Count: 18}, {Kind: "silent", Count: 1}}, Broken: true,
	}
}

// TestCollectorExposition holds what a scrape returns against a golden file.
func TestCollectorExposition(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.NewCollector(sample))
	scrape := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
	golden.Check(t, "exposition.txt", scrape.Body.String())
}

// TestCollectorLint holds names, types and units against Prometheus' own rules.
func TestCollectorLint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry() // also holds Collect against Describe
	reg.MustRegister(metrics.NewCollector(sample))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCollectorLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.NewCollector(sample))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 17 {
		t.Errorf("%d metrics, want 17", len(families))
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if !slices.Contains([]string{"collective", "transport", "phase", "kind"}, label.GetName()) {
					t.Errorf("%s has the label %s: series would grow with the job", family.GetName(), label.GetName())
				}
			}
		}
	}
}

func TestCollectorOfZeroStats(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.NewCollector(func() hfreduce.Stats { return hfreduce.Stats{} }))
	const want = "# HELP hfreduce_broken 1 after a fault or Abort broke the communicator, else 0.\n# TYPE hfreduce_broken gauge\nhfreduce_broken 0\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "hfreduce_broken", "hfreduce_peers", "hfreduce_collectives_total"); err != nil {
		t.Error(err)
	}
}

// TestCollectorBadName: a label that Prometheus cannot hold is that scrape's error, not a panic.
func TestCollectorBadName(t *testing.T) {
	for name, st := range map[string]hfreduce.Stats{
		"collective": {Collectives: []hfreduce.CollectiveStats{{Name: "\xff"}}},
		"transport":  {Links: []hfreduce.LinkStats{{Transport: "\xff"}}},
		"kind":       {Refused: []hfreduce.RefusedStats{{Kind: "\xff"}}},
	} {
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics.NewCollector(func() hfreduce.Stats { return st }))
		if _, err := reg.Gather(); err == nil {
			t.Errorf("%s: a name that is no text was accepted", name)
		}
	}
}

func TestCollectorScrapedAtOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.NewCollector(sample))
	var scrapes sync.WaitGroup
	for range 8 {
		scrapes.Go(func() {
			if _, err := reg.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	scrapes.Wait()
}
