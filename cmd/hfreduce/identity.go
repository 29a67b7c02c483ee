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

// launchers are the pairs that tell it, the first that is set wins: in the order in which Init looks for them. Some launchers set
// theirs for single processes, too, which are then to start ranks here.
var launchers = [...]struct {
	rank, size string
	least      int // processes that make a job
}{
	{"HFREDUCE_RANK", "HFREDUCE_WORLD_SIZE", 1},
	{"RANK", "WORLD_SIZE", 1},
	{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 2}, // mpirun of Open MPI
	{"PMI_RANK", "PMI_SIZE", 2},                         // mpiexec of MPICH and Intel MPI, srun --mpi=pmi2
	{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", 2},         // srun; not what a shell of sbatch or salloc has
}

// identify reports whether a launcher has started this process, and as what.
func identify(getenv func(string) string) (id identity, launched bool, err error) {
	for _, l := range launchers {
		rank, size := getenv(l.rank), getenv(l.size)
		if n, err := strconv.Atoi(size); rank == "" || l.least > 1 && (err != nil || n < l.least) {
			continue
		}
		id.source = l.rank + " and " + l.size
		if id.process, err = strconv.Atoi(rank); err != nil || id.process < 0 {
			return id, true, fmt.Errorf("%s=%q is not a rank; give a number from 0 up, or unset it to start ranks here", l.rank, rank)
		}
		if id.processes, err = strconv.Atoi(size); err != nil || id.process >= id.processes {
			return id, true, fmt.Errorf("%s=%q is not a number above %s=%d; a launcher sets both", l.size, size, l.rank, id.process)
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
