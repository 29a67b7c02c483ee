// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
	"github.com/hfreduce/hfreduce/hfreduce/internal/transport/verbs"
	"github.com/hfreduce/hfreduce/internal/cpus"
	"github.com/hfreduce/hfreduce/internal/testreq"
	"github.com/hfreduce/hfreduce/rdma"
)

// initVerbs returns communicators over RDMA, with a device for each rank as long as there are some. The last of them come
// round.
func initVerbs(t *testing.T, nodeOf []int, o Options) []*Comm {
	t.Helper()
	if err := rdma.Available(); err != nil {
		testreq.Missing(t, "verbs", err.Error())
	}
	infos, err := rdma.Devices()
	if err != nil {
		t.Fatal(err)
	}
	o.Transport = TransportVerbs
	return initRanks(t, nodeOf, "127.0.0.1", o, func(rank int, o *Options) { o.Verbs.Devices = []string{infos[rank%len(infos)].Name} })
}

// TestInitOverVerbsGivesTheSameBits compares RDMA with the oracle that tcp is compared with.
func TestInitOverVerbsGivesTheSameBits(t *testing.T) {
	worlds := maps.Clone(layouts)
	worlds["4x1"], worlds["8x1"] = blocks(4, 4), blocks(8, 8)
	for name, nodeOf := range worlds {
		t.Run(name, func(t *testing.T) {
			comms := initVerbs(t, nodeOf, Options{ChunkBytes: 8192, Slots: 4})
			checkBits(t, comms, nodeOf)
			for _, l := range comms[0].Stats().Links {
				if l.Transport != TransportVerbs || l.SentBytes == 0 {
					t.Errorf("links over %q, %d bytes sent", l.Transport, l.SentBytes)
				}
			}
		})
	}
}

// TestShareDevices: ranks that are dealt out to the NUMA nodes in turn, as mpirun --map-by numa does, share what is on theirs
// with every other rank only.
func TestShareDevices(t *testing.T) {
	sys := fstest.MapFS{
		"devices/system/node/node0/cpulist": {Data: []byte("0-3\n")}, "devices/system/node/node1/cpulist": {Data: []byte("4-7\n")},
	}
	f := &processFabric{}
	for rank := range 8 {
		f.peers = append(f.peers, bootstrap.PeerInfo{Rank: rank, HostID: fmt.Sprint(rank / 4), Seat: bootstrap.Seat{CPUs: cpus.Of(rank%2*4 + rank%4/2)}})
	}
	f.peers[7].Seat.CPUs = "" // not known
	for self, want := range map[int]string{4: "0 0 4 0 2", 5: "1 1 4 0 1", 6: "0 2 4 1 2", 7: "-1 3 4 0 1"} {
		c := verbs.Config{}
		f.self = self
		f.shareDevices(&c, sys)
		if got := fmt.Sprint(c.NUMANode, c.Local, c.Locals, c.Near, c.Nears); got != want {
			t.Errorf("rank %d: NUMA node, number among the ranks of the node and near: got %s, want %s", self, got, want)
		}
	}
}

// TestVerbsSteadyState: once the links are there, collectives register nothing and allocate nothing.
func TestVerbsSteadyState(t *testing.T) {
	ctx := context.Background()
	for name, nodeOf := range map[string][]int{"2x1": blocks(2, 2), "3x1": blocks(3, 3), "2x2": blocks(4, 2)} {
		for _, bytes := range []int{64, 8 << 10, 40_000} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, bytes), func(t *testing.T) {
				comms := initVerbs(t, nodeOf, Options{ChunkBytes: 8192, Slots: 4})
				call := func(c *Comm, x []float32) error { return c.AllReduce(ctx, Host(x[:bytes/4]), Host(x[:bytes/4]), Avg) }
				each(t, comms, func(c *Comm) error { return call(c, make([]float32, bytes/4)) })
				before := rdma.Live()
				measureAllocations(t, comms, call)
				if after := rdma.Live(); !maps.Equal(before, after) {
					t.Errorf("objects of libibverbs before %v, after %v", before, after)
				}
			})
		}
	}
}

// TestVerbsIsDemanded: without RDMA, TransportVerbs is an error that says what is missing, where TransportAuto goes over TCP.
func TestVerbsIsDemanded(t *testing.T) {
	nodeOf := blocks(2, 2)
	none := VerbsOptions{Devices: []string{"none"}}
	checkBits(t, initWorld(t, nodeOf, "127.0.0.1", Options{Transport: TransportAuto, Verbs: none}), nodeOf)
	alone, err := Init(t.Context(), Options{WorldSize: 1, Verbs: none, Transport: TransportVerbs})
	if err != nil {
		t.Fatalf("a rank without peers needs no RDMA: %v", err)
	}
	closeAll(t, []*Comm{alone})
	failed := make(chan error, 2)
	rendezvous := freePort(t, "127.0.0.1")
	for r := range nodeOf {
		go func() {
			_, err := Init(t.Context(), Options{
				Rank: r, WorldSize: 2, Rendezvous: rendezvous, JobID: t.Name(), Node: fmt.Sprint(r), Transport: TransportVerbs, Verbs: none,
			})
			failed <- err
		}()
	}
	for range nodeOf {
		err := <-failed
		if err == nil || !strings.Contains(err.Error(), "rdma: not supported") && !strings.Contains(err.Error(), "ibv_open_device of none") {
			t.Errorf("got %v, want what is missing for RDMA", err)
		}
	}
}
