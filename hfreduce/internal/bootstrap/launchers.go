// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"hash/fnv"
	"io"
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
		{"mpirun", allSet("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), readOpenMPI},
		{"PMI", allSet("PMI_RANK", "PMI_SIZE", "PMI_FD"), readPMI},
		{"srun", allSet("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"), readSlurm},
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

func allSet(names ...string) func(func(string) string) bool {
	return func(getenv func(string) string) bool {
		for _, n := range names {
			if getenv(n) == "" {
				return false
			}
		}
		return true
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

// Where a launcher does not say where to meet, but which host rank 0 is on, and each rank can tell the job's name, the ports
// follow from that: jobPorts of some that the kernel gives nobody by itself.
const (
	jobPorts     = 8
	firstJobPort = 20000
	jobPortRange = 12000
	loopback     = "127.0.0.1"
	atRank0      = envRendezvous + "=host:port of rank 0"
)

// meetAt makes a host of rank 0, and ports that follow from the job's name, the candidates.
func (f *Found) meetAt(host string) {
	h := fnv.New32a()
	io.WriteString(h, f.JobID)
	for i := range jobPorts {
		port := firstJobPort + (int(h.Sum32()%jobPortRange)+i)%jobPortRange
		f.Rendezvous = append(f.Rendezvous, net.JoinHostPort(host, strconv.Itoa(port)))
	}
}

// readOpenMPI reads what mpirun of Open MPI sets. It tells where nobody runs; but all ranks may be on one host, and within a
// job of Slurm's rank 0 is on the job's first.
func readOpenMPI(v *variables, f *Found) {
	v.rankAndSize("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", f)
	f.JobID = fmt.Sprintf("mpirun/%s/%s", v.getenv("PMIX_NAMESPACE"), v.getenv("SLURM_JOB_ID"))
	switch size, nodes := v.getenv("OMPI_COMM_WORLD_SIZE"), v.getenv("SLURM_JOB_NODELIST"); {
	case v.getenv(envRendezvous) != "" || f.WorldSize < 2:
	case v.getenv("OMPI_COMM_WORLD_LOCAL_SIZE") == size:
		f.meetAt(loopback)
	case nodes != "":
		v.meetAtFirst("SLURM_JOB_NODELIST", f)
	default:
		v.fault("it does not say where rank 0 runs: give mpirun -x %s", atRank0)
	}
}

// readPMI reads what launchers with PMI set. They carry a text from rank 0 to the others, so that it may listen anywhere.
func readPMI(v *variables, f *Found) {
	v.rankAndSize("PMI_RANK", "PMI_SIZE", f)
	fd := v.number("PMI_FD", 0, 1<<20)
	if v.getenv(envRendezvous) == "" && f.WorldSize > 1 && len(v.faults) == 0 {
		f.Meet = pmiMeeting(fd, f.Rank)
	}
}

// readSlurm reads what srun sets for each process of a step: not what a shell of sbatch or salloc has.
func readSlurm(v *variables, f *Found) {
	v.rankAndSize("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", f)
	f.JobID = fmt.Sprintf("srun/%s.%s/%s", v.getenv("SLURM_JOB_ID"), v.getenv("SLURM_STEP_ID"), v.getenv("SLURM_RESTART_COUNT"))
	switch {
	case v.getenv(envRendezvous) != "" || f.WorldSize < 2:
	case v.getenv("SLURM_STEP_NUM_NODES") == "1":
		f.meetAt(loopback)
	case f.Rank == 0 && v.getenv("SLURM_NODEID") != "0":
		v.fault("SLURM_NODEID=%q: rank 0 is not on the step's first node, where the others look for it: give srun --mpi=pmi2, or set %s", v.getenv("SLURM_NODEID"), atRank0)
	default:
		v.meetAtFirst("SLURM_STEP_NODELIST", f)
	}
}

// meetAtFirst makes the first host of a list the one of rank 0.
func (v *variables) meetAtFirst(name string, f *Found) {
	host, err := firstHost(v.getenv(name))
	if err != nil {
		v.fault("%s: %w; set %s", name, err, atRank0)
		return
	}
	f.meetAt(host)
}
