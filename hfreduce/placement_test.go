// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/hfreduce/hfreduce/hfreduce/internal/engine"
	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
	"github.com/hfreduce/hfreduce/hfreduce/internal/topo"
)

// twoNodes is the sysfs of a machine with two NUMA nodes, a GPU on the first and an adapter on the second.
func twoNodes() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	return fstest.MapFS{
		"devices/system/cpu/online":                      file("0-7"),
		"devices/system/node/online":                     file("0-1"),
		"devices/system/node/has_memory":                 file("0-1"),
		"devices/system/node/node0/cpulist":              file("0-3"),
		"devices/system/node/node0/distance":             file("10 21"),
		"devices/system/node/node1/cpulist":              file("4-7"),
		"devices/system/node/node1/distance":             file("21 10"),
		"bus/pci/devices/0000:65:00.0/numa_node":         file("0"),
		"class/infiniband/mlx5_0/device/numa_node":       file("1"),
		"class/infiniband/mlx5_0/device/infiniband/null": file(""),
	}
}

func TestPoliciesFollowThePaper(t *testing.T) {
	m, err := topo.Read(twoNodes())
	if err != nil {
		t.Fatal(err)
	}
	g := engine.NewGeometry(4, 4, 4, 1<<20, 4096, schedule.Exchange{}).WithDevices()
	inLo, inHi, outLo, outHi := g.Areas()
	if inLo >= inHi || inHi != outLo || outLo >= outHi {
		t.Fatalf("the areas are [%d,%d) and [%d,%d)", inLo, inHi, outLo, outHi)
	}
	for _, test := range []struct {
		name, nic string
		allowed   []int
		want      []policy
	}{
		{"with an adapter", "mlx5_0", []int{0, 1}, []policy{{inLo, inHi, []int{0, 1}}, {outLo, outHi, []int{1}}}},
		{"without", "", []int{0, 1}, []policy{{inLo, inHi, []int{0, 1}}, {outLo, outHi, []int{0, 1}}}},
		{"adapter's node not allowed to this process", "mlx5_0", []int{0}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policies(m, &g, "0000:65:00.0", test.nic, test.allowed); !reflect.DeepEqual(got, test.want) {
				t.Errorf("policies are %v, want %v", got, test.want)
			}
		})
	}
}
