// SPDX-License-Identifier: Apache-2.0

package topo

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	single := tree{}
	single.node("0", "0-63", "10")
	single.device("pci0000:00/0000:00:01.1/0000:01:00.0", "0")
	noMemory := node8().with(func(s tree) { s.file("devices/system/node/has_memory", "0") })
	// As on Grace Hopper: the GPUs' memory is nodes 2 and 3, without processors.
	superchip := node8().with(func(s tree) {
		s.node("0", "0-31", "10 40 80 120")
		s.node("1", "32-63", "40 10 120 80")
		s.node("2", "", "80 120 10 160")
		s.node("3", "", "120 80 160 10")
		s.file("devices/system/node/has_memory", "0-3")
		s.device("pci0009:00/0009:00:00.0/0009:01:00.0", "3")
	})
	bare := node8().with(func(s tree) { s.node("0", "", "10 32"); s.node("1", "", "32 10") })
	for name, c := range map[string]struct {
		sys               tree
		gpu, nic, allowed string
		want              string // Stage Result CPUs
		why               []string
	}{
		"near and far":         {node8(), "0000:01:00.0", "mlx5_0:1", "0-63", "[0 1] 1 0-31", []string{"[0 1] in turn", "results lie on node 1, the NIC's", "0-31 of node 0, the GPU's"}},
		"GPU beside the NIC":   {node8(), "0000:a3:00.0", "mlx5_0", "0-63", "[0 1] 1 32-63", nil},
		"part of the node":     {node8(), "0000:01:00.0", "mlx5_0", "28-35", "[0 1] 1 28-31", nil},
		"no NIC":               {node8(), "0000:01:00.0", "", "0-63", "[0 1] 0 0-31", []string{"node 0, the GPU's"}},
		"NIC without a node":   {node8(), "0000:01:00.0", "rxe0", "0-63", "[0 1] 0 0-31", nil},
		"no GPU":               {node8(), "", "mlx5_0", "0-63", "[] 1 32-63", []string{"no GPU", "32-63 of node 1, the NIC's"}},
		"GPU without a node":   {node8(), "0000:ff:00.0", "mlx5_0", "0-63", "[0 1] 1 32-63", nil},
		"neither":              {node8(), "", "", "0-63", "[] -1 none", []string{"results are left alone", "threads are left alone"}},
		"bound elsewhere":      {node8(), "0000:01:00.0", "mlx5_0", "40-47", "[0 1] 1 none", []string{"may use processors 40-47, none of node 0", "0-31"}},
		"nothing allowed":      {node8(), "0000:01:00.0", "mlx5_0", "", "[0 1] 1 none", []string{"may use processors none"}},
		"one node":             {single, "0000:01:00.0", "", "0-63", "[] -1 none", []string{"one NUMA node"}},
		"without NUMA":         {tree{}, "", "", "", "[] -1 none", []string{"one NUMA node"}},
		"memory on one node":   {noMemory, "0000:01:00.0", "mlx5_0", "0-63", "[] -1 0-31", []string{"memory is left alone", "processors 0-31"}},
		"GPUs' memory":         {superchip, "0009:01:00.0", "", "0-63", "[0 1] 1 32-63", []string{"node 1, near node 3, which is the GPU's"}},
		"nodes without a list": {bare, "0000:01:00.0", "mlx5_0", "0-63", "[] -1 none", []string{"no node tells its processors"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Place(c.sys.read(t), c.gpu, c.nic, list(t, c.allowed))
			if got := fmt.Sprintf("%v %d %v", p.Stage, p.Result, p.CPUs); got != c.want {
				t.Errorf("got %s, want %s; %s", got, c.want, p.Why)
			}
			for _, part := range append(c.why, " ") {
				if !strings.Contains(p.Why, part) {
					t.Errorf("%q does not say %q", p.Why, part)
				}
			}
		})
	}
}
