// SPDX-License-Identifier: Apache-2.0

// Package metrics shows the counters of a communicator to Prometheus:
//
//	prometheus.MustRegister(metrics.NewCollector(comm.Stats))
//
// All values are in base units (bytes, seconds). No label holds a rank or a sequence number, so the number of series
// does not grow with the job: it is the same for 4 ranks and for 4000. Where a process has several communicators, give
// each its own label:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"comm": "dp"}, reg).MustRegister(metrics.NewCollector(dp.Stats))
//
// The core package does not import Prometheus; only who imports this one pays for it.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// The labels, complete.
const (
	collectiveLabel = "collective"
	transportLabel  = "transport"
	phaseLabel      = "phase"
	kindLabel       = "kind"
)

// collector turns a snapshot of Stats into metrics at every scrape. It keeps no values of its own.
type collector struct {
	stats func() hfreduce.Stats

	collectives, errors, bytes, duration             *prometheus.Desc
	sentBytes, receivedBytes, sentMsgs, receivedMsgs *prometheus.Desc
	peers                                            *prometheus.Desc
	accepted, refused                                *prometheus.Desc
	allocatedBytes, segmentBytes, broken             *prometheus.Desc
	filledBytes, drainedBytes, phaseSeconds          *prometheus.Desc
}

// NewCollector returns a collector of what stats returns, usually the method value comm.Stats. stats is called once for
// every scrape, possibly from several goroutines at once. A closed Comm keeps its last counters; unregister its
// collector when they are no longer of interest.
func NewCollector(stats func() hfreduce.Stats) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hfreduce_"+name, help, labels, nil)
	}
	return &collector{
		stats:          stats,
		collectives:    desc("collectives_total", "Collectives that ended, with or without error.", collectiveLabel),
		errors:         desc("collective_errors_total", "Collectives that ended with an error.", collectiveLabel),
		bytes:          desc("collective_bytes_total", "Sizes of the buffers of the collectives that ended.", collectiveLabel),
		duration:       desc("collective_duration_seconds", "Time from the start of a collective to its end.", collectiveLabel),
		sentBytes:      desc("link_sent_bytes_total", "Payload sent to other nodes.", transportLabel),
		receivedBytes:  desc("link_received_bytes_total", "Payload received from other nodes.", transportLabel),
		sentMsgs:       desc("link_sent_messages_total", "Messages sent to other nodes.", transportLabel),
		receivedMsgs:   desc("link_received_messages_total", "Messages received from other nodes.", transportLabel),
		peers:          desc("peers", "Ranks on other nodes that this rank is connected to.", transportLabel),
		accepted:       desc("connections_accepted_total", "Connections accepted on this rank's port."),
		refused:        desc("connections_refused_total", "Connections refused on this rank's port: strangers and failed hellos.", kindLabel),
		allocatedBytes: desc("allocated_bytes", "Memory in use from Comm.Alloc."),
		segmentBytes:   desc("segment_bytes", "Size of the staging segment that the ranks of the node share."),
		filledBytes:    desc("device_filled_bytes_total", "Bytes that this rank's GPU copied to the host for collectives."),
		drainedBytes:   desc("device_drained_bytes_total", "Bytes of results that this rank's GPU copied from the host."),
		phaseSeconds:   desc("device_phase_seconds_total", "Time in which a chunk of a collective on GPU memory was in the phase; phases overlap.", phaseLabel),
		broken:         desc("broken", "1 after a fault or Abort broke the communicator, else 0."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.collectives, c.errors, c.bytes, c.duration,
		c.sentBytes, c.receivedBytes, c.sentMsgs, c.receivedMsgs, c.peers,
		c.accepted, c.refused, c.allocatedBytes, c.segmentBytes, c.broken,
		c.filledBytes, c.drainedBytes, c.phaseSeconds,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(d, kind, value, labels...)
		if err != nil { // a label that is not UTF-8
			m = prometheus.NewInvalidMetric(d, err)
		}
		ch <- m
	}
	for i := range st.Collectives {
		k := &st.Collectives[i]
		send(c.collectives, prometheus.CounterValue, float64(k.Calls), k.Name)
		send(c.errors, prometheus.CounterValue, float64(k.Errors), k.Name)
		send(c.bytes, prometheus.CounterValue, float64(k.Bytes), k.Name)
		ch <- histogram(c.duration, k)
	}
	for _, l := range st.Links {
		send(c.sentBytes, prometheus.CounterValue, float64(l.SentBytes), l.Transport)
		send(c.receivedBytes, prometheus.CounterValue, float64(l.ReceivedBytes), l.Transport)
		send(c.sentMsgs, prometheus.CounterValue, float64(l.SentMessages), l.Transport)
		send(c.receivedMsgs, prometheus.CounterValue, float64(l.ReceivedMessages), l.Transport)
		send(c.peers, prometheus.GaugeValue, float64(l.Peers), l.Transport)
	}
	send(c.accepted, prometheus.CounterValue, float64(st.ConnectionsAccepted))
	for _, r := range st.Refused {
		send(c.refused, prometheus.CounterValue, float64(r.Count), r.Kind)
	}
	send(c.allocatedBytes, prometheus.GaugeValue, float64(st.AllocatedBytes))
	send(c.segmentBytes, prometheus.GaugeValue, float64(st.SegmentBytes))
	if d := st.Device; d != nil {
		send(c.filledBytes, prometheus.CounterValue, float64(d.FilledBytes))
		send(c.drainedBytes, prometheus.CounterValue, float64(d.DrainedBytes))
		for phase, seconds := range map[string]float64{"fill": d.FillSeconds, "reduce": d.ReduceSeconds, "network": d.NetworkSeconds, "drain": d.DrainSeconds} {
			send(c.phaseSeconds, prometheus.CounterValue, seconds, phase)
		}
	}
	broken := 0.0
	if st.Broken {
		broken = 1
	}
	send(c.broken, prometheus.GaugeValue, broken)
}

// histogram makes the durations of one kind of collective a metric.
func histogram(d *prometheus.Desc, k *hfreduce.CollectiveStats) prometheus.Metric {
	buckets := make(map[float64]uint64, len(k.Buckets))
	for _, b := range k.Buckets {
		buckets[b.UpperSeconds] = b.Count
	}
	m, err := prometheus.NewConstHistogram(d, k.Calls, k.Seconds, buckets, k.Name)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}
