// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"strconv"
)

// identity is this process's place in a job that a launcher has started. Init finds it by itself; the benchmark needs
// it for processes with several ranks.
type identity struct {
	process, processes int
	source             string // the variables that it is from
	rendezvous         string // "" for Init to find
}

// identityVariables are the pairs that tell it, the first that is set wins.
var identityVariables = [...][2]string{{"HFREDUCE_RANK", "HFREDUCE_WORLD_SIZE"}, {"RANK", "WORLD_SIZE"}}

// otherLaunchers are the pairs that others set for each process they start: mpirun of Open MPI, those of MPICH and Intel MPI, srun
// (not what sbatch and salloc set, which start one shell). None says where to meet, so that the ranks must be told.
var otherLaunchers = [...]struct{ name, rank, size string }{
	{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
	{"mpirun", "PMI_RANK", "PMI_SIZE"},
	{"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
}

// checkAlone returns an error if another launcher has started this process as one of several that do not know of each other.
func checkAlone(getenv func(string) string) error {
	for _, l := range otherLaunchers {
		rank := getenv(l.rank)
		if n, err := strconv.Atoi(getenv(l.size)); rank == "" || err != nil || n < 2 {
			continue
		}
		return fmt.Errorf("%s has started this as process %s of %s, each of which would start a job of its own: on all of them set HFREDUCE_RANK=$%s, "+
			"HFREDUCE_WORLD_SIZE=$%s and HFREDUCE_RENDEZVOUS=host:port of process 0, or start them with torchrun; -np starts ranks here all the same",
			l.name, rank, getenv(l.size), l.rank, l.size)
	}
	return nil
}

// identify reports whether a launcher has started this process, and as what.
func identify(getenv func(string) string) (id identity, launched bool, err error) {
	for _, names := range identityVariables {
		rank, size := getenv(names[0]), getenv(names[1])
		if rank == "" {
			continue
		}
		id.source = names[0] + " and " + names[1]
		if id.process, err = strconv.Atoi(rank); err != nil || id.process < 0 {
			return id, true, fmt.Errorf("%s=%q is not a rank; give a number from 0 up, or unset it to start ranks here", names[0], rank)
		}
		if id.processes, err = strconv.Atoi(size); err != nil || id.process >= id.processes {
			return id, true, fmt.Errorf("%s=%q is not a number above %s=%d; a launcher sets both", names[1], size, names[0], id.process)
		}
		id.rendezvous = meetingPoint(getenv)
		return id, true, nil
	}
	return identity{}, false, nil
}

// meetingPoint returns where ranks meet: HFREDUCE_RENDEZVOUS, or the port after torchrun's.
func meetingPoint(getenv func(string) string) string {
	if r := getenv("HFREDUCE_RENDEZVOUS"); r != "" {
		return r
	}
	port, err := strconv.Atoi(getenv("MASTER_PORT"))
	if addr := getenv("MASTER_ADDR"); addr != "" && err == nil {
		return net.JoinHostPort(addr, strconv.Itoa(port+1))
	}
	return ""
}
