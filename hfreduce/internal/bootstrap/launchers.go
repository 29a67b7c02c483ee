// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// launcher is a row of the table: how to see that a launcher started this process, and how to read its variables.
type launcher struct {
	name    string
	present func(getenv func(string) string) bool
	read    func(v *variables, f *Found)
}

// launchers is the table, in the order in which the rows are tried. A launcher that runs within another (mpirun within
// a Slurm allocation) must stand before it.
func launchers() []launcher {
	return []launcher{
		{"HFREDUCE_RANK", anySet(envRank, envWorldSize), readExplicit},
		{"torchrun", torchrunPresent, readTorch},
		{"torch environment", torchEnvironmentPresent, readTorch},
	}
}

func anySet(names ...string) func(func(string) string) bool {
	return func(getenv func(string) string) bool {
		for _, n := range names {
			if getenv(n) != "" {
				return true
			}
		}
		return false
	}
}

// readExplicit reads rank and world size from our own variables; the rest are settings.
func readExplicit(v *variables, f *Found) { v.rankAndSize(envRank, envWorldSize, f) }

// torchrunPresent: RANK alone is not enough, because Kubeflow's PyTorchJob and its likes count nodes with it; LOCAL_RANK
// says that processes are counted.
func torchrunPresent(getenv func(string) string) bool {
	return getenv("TORCHELASTIC_RUN_ID") != "" || getenv("RANK") != "" && getenv("LOCAL_RANK") != ""
}

// torchEnvironmentPresent: the variables of torch's "env://", set by hand or by an operator that runs one process for
// each pod. Where they count nodes and each starts several processes, these have one rank, and Join says so. On
// HAI-Platform (MARSV2_RANK) WORLD_SIZE always counts machines.
func torchEnvironmentPresent(getenv func(string) string) bool {
	return getenv("RANK") != "" && getenv("WORLD_SIZE") != "" && getenv("MARSV2_RANK") == ""
}

// torchPorts is how many ports above MASTER_PORT are candidates. MASTER_PORT itself belongs to torch's store.
const torchPorts = 8

// readTorch reads RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The job id tells apart restarts of a job and jobs that
// share a machine, as far as torch does.
func readTorch(v *variables, f *Found) {
	v.rankAndSize("RANK", "WORLD_SIZE", f)
	f.JobID = fmt.Sprintf("torchrun/%s/%s/%s", v.getenv("TORCHELASTIC_RUN_ID"), v.getenv("MASTER_PORT"), v.getenv("TORCHELASTIC_RESTART_COUNT"))
	if v.getenv(envRendezvous) != "" {
		return // wins, and MASTER_ADDR is not needed
	}
	host := strings.Trim(v.getenv("MASTER_ADDR"), "[]") // IPv6 comes with and without brackets
	if host == "" {
		v.fault("MASTER_ADDR is missing: set it to the address of rank 0, or set %s", envRendezvous)
	}
	port := v.number("MASTER_PORT", 1, 65535-torchPorts)
	for i := 1; i <= torchPorts; i++ {
		f.Rendezvous = append(f.Rendezvous, net.JoinHostPort(host, strconv.Itoa(port+i)))
	}
}
