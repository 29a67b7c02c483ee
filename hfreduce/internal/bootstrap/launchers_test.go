// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What launchers of MPI programs set, taken from Open MPI 4.1, Slurm 22.05 and MPICH 4.0.
const (
	underOpenMPI = "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=2 OMPI_UNIVERSE_SIZE=4 PMIX_RANK=2 PMIX_NAMESPACE=3526426625"
	underSrun    = "SLURM_PROCID=2 SLURM_LOCALID=0 SLURM_NODEID=1 SLURM_NTASKS=3 SLURM_STEP_NUM_TASKS=3 SLURM_JOB_ID=2 SLURM_STEP_ID=0 SLURM_JOB_NODELIST=n[1-2]"
	underHydra   = "PMI_RANK=1 PMI_SIZE=4 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4"
)

func portsAt(host string, first int) (all []string) {
	for i := range jobPorts {
		all = append(all, fmt.Sprintf("%s:%d", host, first+i))
	}
	return all
}

func detectedUnderMPI() []detected {
	return []detected{
		{"mpirun on one host", underOpenMPI + " OMPI_COMM_WORLD_LOCAL_SIZE=4",
			Found{Launcher: "mpirun", Rank: 2, WorldSize: 4, JobID: "mpirun/3526426625/", Rendezvous: portsAt("127.0.0.1", 26303)}},
		{"mpirun within Slurm", underOpenMPI + " OMPI_COMM_WORLD_LOCAL_SIZE=2 SLURM_PROCID=0 SLURM_JOB_ID=17 SLURM_JOB_NODELIST=gpu[08-09]-ib0,login",
			Found{Launcher: "mpirun", Rank: 2, WorldSize: 4, JobID: "mpirun/3526426625/17", Rendezvous: portsAt("gpu08-ib0", 31143)}},
		{"mpirun that is told", underOpenMPI + " OMPI_COMM_WORLD_LOCAL_SIZE=2 HFREDUCE_RENDEZVOUS=h:1",
			Found{Launcher: "mpirun", Rank: 2, WorldSize: 4, JobID: "mpirun/3526426625/", Rendezvous: []string{"h:1"}}},
		{"mpirun of one", "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", Found{Launcher: "mpirun", WorldSize: 1, JobID: "mpirun//"}},
		{"srun on one node", underSrun + " SLURM_STEP_NODELIST=n1 SLURM_STEP_NUM_NODES=1",
			Found{Launcher: "srun", Rank: 2, WorldSize: 3, JobID: "srun/2.0/", Rendezvous: portsAt("127.0.0.1", 24233)}},
		{"srun", underSrun + " SLURM_STEP_NODELIST=n[1-2] SLURM_STEP_NUM_NODES=2 SLURM_RESTART_COUNT=1",
			Found{Launcher: "srun", Rank: 2, WorldSize: 3, JobID: "srun/2.0/1", Rendezvous: portsAt("n1", 24616)}},
		{"srun that is told", underSrun + " SLURM_STEP_NODELIST=n[1-2] HFREDUCE_RENDEZVOUS=h:1 HFREDUCE_JOB_ID=j",
			Found{Launcher: "srun", Rank: 2, WorldSize: 3, JobID: "j", Rendezvous: []string{"h:1"}}},
		{"torch's variables within srun", underSrun + " SLURM_STEP_NODELIST=n[1-2] RANK=1 WORLD_SIZE=2 HFREDUCE_RENDEZVOUS=h:1",
			Found{Launcher: "torch environment", Rank: 1, WorldSize: 2, JobID: "torchrun///", Rendezvous: []string{"h:1"}}},
		{"PMI that is told", underHydra + " PMI_FD=0 HFREDUCE_RENDEZVOUS=h:1", Found{Launcher: "PMI", Rank: 1, WorldSize: 4, Rendezvous: []string{"h:1"}}},
	}
}

func TestDetectFaultsUnderMPI(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{underOpenMPI + " OMPI_COMM_WORLD_LOCAL_SIZE=2", "it does not say where rank 0 runs: give mpirun -x HFREDUCE_RENDEZVOUS=host:port of rank 0"},
		{underOpenMPI + " SLURM_JOB_NODELIST=n[", `SLURM_JOB_NODELIST: "n[" is no list of hosts`},
		{strings.Replace(underSrun, "SLURM_PROCID=2", "SLURM_PROCID=0", 1) + " SLURM_STEP_NODELIST=n[1-2] SLURM_STEP_NUM_NODES=2",
			`SLURM_NODEID="1": rank 0 is not on the step's first node, where the others look for it: give srun --mpi=pmi2, or set HFREDUCE_RENDEZVOUS`},
		{strings.Replace(underSrun, "SLURM_PROCID=2", "SLURM_PROCID=3", 1) + " SLURM_STEP_NODELIST=n1", "SLURM_PROCID=3 with SLURM_STEP_NUM_TASKS=3: ranks count from 0 to 2"},
		{underHydra + " PMI_FD=x", `PMI_FD="x" is not a whole number`},
	} {
		_, err := Detect(environment(strings.Fields(c.env)...))
		mustContain(t, err, "bootstrap: environment of ", c.want)
	}
	if f, err := Detect(environment(strings.Fields(underHydra + " PMI_FD=7")...)); err != nil || f.Launcher != "PMI" || f.Rank != 1 || f.WorldSize != 4 || f.Meet == nil {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"n1": "n1", "n[1-2]": "n1", "n[01-03,07]": "n01", "gpu[0-1]-ib[0-1]": "gpu0-ib0", "rack[1-2]n[08-11]": "rack1n08", "a,b,c[3-5]": "a",
		"n[099-101]": "n099", "node-[1-2].cluster.local": "node-1.cluster.local", "n[5],x": "n5",
	} {
		if got, err := firstHost(list); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %s", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "n[", "n[]", "n[1", "n[a-b]", "n]1", "[-1]", "a b"} {
		if got, err := firstHost(list); err == nil {
			t.Errorf("%q gave %q", list, got)
		}
	}
}

// pmiServer is a launcher with PMI for some processes.
type pmiServer struct {
	mu      sync.Mutex
	values  map[string]string
	waiting []net.Conn
	size    int
	refuse  string // a command that fails
	longest int    // request
	most    int    // bytes of a value, 0: 64
	said    []string
}

// process returns the descriptor of a process's end of a connection, which is closed by its use.
func (s *pmiServer) process(t *testing.T) int {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "launcher")
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve(conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	pmiUsed.Lock()
	defer pmiUsed.Unlock()
	delete(pmiUsed.fds, fds[1]) // the number is used again
	return fds[1]
}

func (s *pmiServer) serve(conn net.Conn) {
	for in := bufio.NewScanner(conn); in.Scan(); {
		words := map[string]string{}
		for _, w := range strings.Fields(in.Text()) {
			name, value, _ := strings.Cut(w, "=")
			words[name] = value
		}
		s.mu.Lock()
		s.said = append(s.said, words["cmd"])
		s.longest = max(s.longest, len(in.Text())+1)
		answer := ""
		switch cmd := words["cmd"]; {
		case cmd == s.refuse:
			answer = "cmd=result rc=-1 msg=refused"
		case cmd == "init":
			answer = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0"
		case cmd == "get_maxes":
			answer = fmt.Sprintf("cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=%d", cmp.Or(s.most, 64))
		case cmd == "get_my_kvsname":
			answer = "cmd=my_kvsname kvsname=kvs_1"
		case cmd == "put":
			s.values[words["kvsname"]+words["key"]] = words["value"]
			answer = "cmd=put_result rc=0 msg=success"
		case cmd == "barrier_in":
			if s.waiting = append(s.waiting, conn); len(s.waiting) == s.size {
				for _, c := range s.waiting {
					fmt.Fprintln(c, "cmd=barrier_out")
				}
			}
		case cmd == "get":
			answer = "cmd=get_result rc=0 msg=success value=" + s.values[words["kvsname"]+words["key"]]
		case cmd == "finalize":
			answer = "cmd=finalize_ack"
		}
		s.mu.Unlock()
		if answer != "" {
			fmt.Fprintln(conn, answer)
		}
	}
}

func newPMI(size int) *pmiServer { return &pmiServer{size: size, values: map[string]string{}} }

// TestJoinByPMI: ranks that know nothing but their launcher meet, each in its turn says goodbye to the launcher, and another job
// at the same time is another one.
func TestJoinByPMI(t *testing.T) {
	var ports []string
	for _, name := range []string{"one", "two"} {
		s, cfgs := newPMI(3), make([]Config, 3)
		for rank := range cfgs {
			cfgs[rank] = job(t, 3).rankOf(rank)
			cfgs[rank].Rendezvous, cfgs[rank].Secret, cfgs[rank].Meet = nil, nil, pmiMeeting(s.process(t), rank)
		}
		ss := sessions(t, joinAll(t.Context(), cfgs...))
		mustExchange(t, ss, name, []int{0, 1, 2})
		if a, b := ss[0].Identity(), ss[2].Identity(); a.JobID != b.JobID || a.JobID == t.Name() || len(a.Secret) == 0 || !bytes.Equal(a.Secret, b.Secret) {
			t.Errorf("jobs %q and %q, with secrets of %d and %d bytes, equal: %t", a.JobID, b.JobID, len(a.Secret), len(b.Secret), bytes.Equal(a.Secret, b.Secret))
		}
		ports = append(ports, ss[0].Identity().JobID)
		s.mu.Lock()
		if n := len(slices.DeleteFunc(slices.Clone(s.said), func(c string) bool { return c != "finalize" })); n != 3 {
			t.Errorf("%d of 3 processes said goodbye to the launcher", n)
		}
		s.mu.Unlock()
	}
	if ports[0] == ports[1] {
		t.Errorf("two jobs are called %s", ports[0])
	}
}

// TestPMIFaults: what goes wrong with the launcher is said.
func TestPMIFaults(t *testing.T) {
	s := newPMI(1)
	fd := s.process(t)
	if text, err := pmiMeeting(fd, 0)(t.Context(), strings.Repeat("0123456789,", 10)); err != nil || len(text) > 63 || !strings.HasPrefix(text, "0123456789,") {
		t.Errorf("%q, %v", text, err)
	}
	wide := newPMI(1)
	wide.most = 1024
	text, err := pmiMeeting(wide.process(t), 0)(t.Context(), strings.Repeat("0123456789,", 200))
	wide.mu.Lock()
	if err != nil || len(text) < 900 || wide.longest > 1024 {
		t.Errorf("a text of %d bytes in a request of %d, %v", len(text), wide.longest, err)
	}
	wide.mu.Unlock()
	_, err = pmiMeeting(fd, 0)(t.Context(), "again")
	mustContain(t, err, "once in a process (PMI)", "HFREDUCE_RENDEZVOUS")
	_, err = pmiMeeting(1<<20, 0)(t.Context(), "")
	mustContain(t, err, "PMI_FD=1048576 is no connection to a launcher")
	for _, command := range []string{"init", "put"} {
		s := newPMI(1)
		s.refuse = command
		_, err := pmiMeeting(s.process(t), 0)(t.Context(), "x")
		mustContain(t, err, "the launcher refused "+command+" (PMI): cmd=result rc=-1 msg=refused")
	}
	alone := newPMI(2)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, ErrTimeout)
	defer cancel()
	cfg := job(t, 2).rankOf(1)
	cfg.Rendezvous, cfg.Meet = nil, pmiMeeting(alone.process(t), 1)
	_, err = Join(ctx, cfg)
	mustContain(t, err, "bootstrap: rank 1: not all ranks have asked the launcher where to meet (PMI): timed out")
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("%v is no ErrTimeout", err)
	}
}

// TestTellsNobody: rank 0 says why it could not tell the others.
func TestTellsNobody(t *testing.T) {
	cfg := job(t, 2)
	cfg.Rendezvous, cfg.Meet = nil, func(context.Context, string) (string, error) { return "", errors.New("the launcher is gone") }
	_, err := Join(t.Context(), cfg)
	mustContain(t, err, "bootstrap: rank 0: the launcher is gone")
}

// TestFindsNothing: what rank 0 tells must be where to meet.
func TestFindsNothing(t *testing.T) {
	for text, want := range map[string]string{"": `rank 0 said ""`, "job": "which is no address", "job,x": "want host:port"} {
		cfg := job(t, 2).rankOf(1)
		cfg.Rendezvous, cfg.Meet = nil, func(context.Context, string) (string, error) { return text, nil }
		_, err := Join(t.Context(), cfg)
		mustContain(t, err, "bootstrap: rank 1: ", want)
	}
}
