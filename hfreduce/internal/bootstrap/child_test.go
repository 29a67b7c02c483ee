// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// childEnv holds the rank of a test's child process, which joins and then waits for its end of input.
const childEnv = "HFREDUCE_TEST_BOOTSTRAP_CHILD"

// child is the main function of a child process.
func child() {
	found, err := Detect(os.Getenv)
	if err == nil {
		var s *Session
		if s, err = Join(context.Background(), found.Config()); err == nil {
			fmt.Println("joined")
			io.Copy(io.Discard, os.Stdin)
			err = s.Close(context.Background())
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func spawn(t *testing.T, cfg Config, rank int) (cmd *exec.Cmd, stdin io.Closer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", "HFREDUCE_RANK="+strconv.Itoa(rank), "HFREDUCE_WORLD_SIZE="+strconv.Itoa(cfg.WorldSize),
		"HFREDUCE_RENDEZVOUS=tcp://"+cfg.Rendezvous[0], "HFREDUCE_JOB_ID="+cfg.JobID, "HFREDUCE_SECRET="+string(cfg.Secret))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, in
}

// A process that is killed is seen at once, by its pid; one that closes leaves without a trace.
func TestProcessKilled(t *testing.T) {
	cfg := job(t, 4)
	victim, _ := spawn(t, cfg, 1)
	polite, stdin := spawn(t, cfg, 2)
	ss := sessions(t, joinAll(t.Context(), cfg.rankOf(0), cfg.rankOf(3)))
	zero, three := watch(ss[0]), watch(ss[1])
	stdin.Close()
	if err := polite.Wait(); err != nil {
		t.Errorf("the polite child: %v", err)
	}
	victim.Process.Kill()
	for _, c := range []chan Event{zero, three} {
		e := next(t, c)
		if e.Kind != PeerLost || e.Rank != 1 || e.PID != victim.Process.Pid || e.Host != hostName() || e.Text == "" {
			t.Errorf("got %+v", e)
		}
	}
}

// A process that dies takes the control channel with it when it is rank 0.
func TestRankZeroProcessKilled(t *testing.T) {
	cfg := job(t, 3)
	victim, _ := spawn(t, cfg, 0)
	for _, s := range sessions(t, joinAll(t.Context(), cfg.rankOf(1), cfg.rankOf(2))) {
		c := watch(s)
		if s.rank == 1 {
			victim.Process.Kill()
		}
		if e := next(t, c); e.Kind != PeerLost || e.Rank != 0 || e.PID != victim.Process.Pid {
			t.Errorf("got %+v", e)
		}
	}
}
