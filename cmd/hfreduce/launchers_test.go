// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/internal/testreq"
)

// TestUnderLaunchers: the benchmark is one job under launchers of MPI programs, which need not tell it where to meet.
func TestUnderLaunchers(t *testing.T) {
	asRoot := []string{"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"}
	for name, c := range map[string]struct {
		command string
		env     []string
		ranks   int
	}{
		"MPICH":                 {"mpiexec.mpich -n 3", nil, 3},
		"MPICH on two hosts":    {"mpiexec.mpich -launcher fork -hosts 127.0.0.2,127.0.0.3 -ppn 2 -n 4", nil, 4},
		"Open MPI":              {"mpirun.openmpi --oversubscribe -n 3", asRoot, 3},
		"srun on one node":      {"srun -N1 -n3", nil, 3},
		"srun with PMI":         {"srun --mpi=pmi2 -N2 -n3", nil, 3},
		"mpirun within Slurm":   {"srun -N1 -n1 mpirun.openmpi --oversubscribe -n 2", append([]string{"OMPI_MCA_ras=^slurm", "OMPI_MCA_plm=isolated"}, asRoot...), 2},
		"srun that is told how": {"srun -N2 -n3", []string{fmt.Sprintf("HFREDUCE_RENDEZVOUS=127.0.0.1:%d", freePort(t))}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			launcher := strings.Fields(c.command)
			path, err := exec.LookPath(launcher[0])
			if err != nil {
				testreq.Missing(t, "launchers", err.Error())
			}
			if launcher[0] == "srun" && os.Getenv("SLURM_CONF") == "" {
				testreq.Missing(t, "launchers", "SLURM_CONF names no Slurm")
			}
			cmd := program(t, c.env, "bench", "-b", "8", "-e", "64K", "-f", "8", "-n", "3")
			cmd.Path, cmd.Args = path, append(launcher, cmd.Args...)
			var out, complaints bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &complaints
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, complaints.String())
			}
			checkTable(t, out.String(), 5)
			if n := strings.Count(out.String(), "#  Rank "); n != c.ranks {
				t.Errorf("%d ranks, want %d:\n%s", n, c.ranks, out.String())
			}
		})
	}
}
