// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestRanksGetTheirEnvironment(t *testing.T) {
	o, stdout, _ := roleOf(5, "env")
	o.Nodes = 2
	o.Env = append(o.Env, "WORLD_SIZE=99", "HFREDUCE_RANK=99", "TORCHELASTIC_RUN_ID=other", "KEPT=yes")
	if code := run(t, o); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	env := map[string][]string{} // by name, of ranks 0..4
	for rank := range 5 {
		for line := range strings.Lines(stdout.String()) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), fmt.Sprintf("%d ", rank)); ok {
				name, value, _ := strings.Cut(rest, "=")
				env[name] = append(env[name], value)
			}
		}
	}
	for name, want := range map[string]string{
		"RANK": "0 1 2 3 4", "WORLD_SIZE": "5 5 5 5 5", "LOCAL_RANK": "0 1 2 0 1", "LOCAL_WORLD_SIZE": "3 3 3 2 2",
		"GROUP_RANK": "0 0 0 1 1", "HFREDUCE_NODE": "node0 node0 node0 node1 node1", "KEPT": "yes yes yes yes yes",
		"MASTER_ADDR": "127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1", "HFREDUCE_RANK": "", "TORCHELASTIC_RUN_ID": "",
	} {
		if got := strings.Join(env[name], " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"HFREDUCE_RENDEZVOUS", "HFREDUCE_JOB_ID", "HFREDUCE_SECRET", "MASTER_PORT"} {
		if all := env[name]; len(all) != 5 || all[0] == "" || len(slices.Compact(slices.Clone(all))) != 1 {
			t.Errorf("%s is not the same on all ranks: %q", name, all)
		}
	}
	port, _ := strconv.Atoi(env["MASTER_PORT"][0])
	if want := fmt.Sprintf("127.0.0.1:%d", port+1); env["HFREDUCE_RENDEZVOUS"][0] != want {
		t.Errorf("rendezvous %s, want %s", env["HFREDUCE_RENDEZVOUS"][0], want)
	}
}

func TestJobsDiffer(t *testing.T) {
	a, err := newJob(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newJob(1, 1)
	if err != nil || a.id == b.id || a.secret == b.secret || len(a.secret) < 20 {
		t.Errorf("%+v, %+v, %v", a, b, err)
	}
	env := a.environ(nil, placeOf(0, 1, 1))
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "HFREDUCE_NODE=") }) {
		t.Error("one node alone needs no name")
	}
}

func TestPlaceOf(t *testing.T) {
	for _, ranks := range []int{1, 2, 5, 8, 17} {
		for nodes := 1; nodes <= ranks; nodes++ {
			sizes := make([]int, nodes)
			for rank := range ranks {
				p := placeOf(rank, ranks, nodes)
				if p.localRank != sizes[p.node] || p.node > 0 && sizes[p.node-1] == 0 {
					t.Fatalf("rank %d of %d on %d nodes: %+v", rank, ranks, nodes, p)
				}
				sizes[p.node]++
				if p.localSize != placeOf(0, ranks, nodes).localSize && p.localSize != ranks/nodes {
					t.Fatalf("rank %d of %d on %d nodes: %+v", rank, ranks, nodes, p)
				}
			}
			if slices.Max(sizes)-slices.Min(sizes) > 1 {
				t.Fatalf("%d ranks on %d nodes: %v", ranks, nodes, sizes)
			}
		}
	}
}
