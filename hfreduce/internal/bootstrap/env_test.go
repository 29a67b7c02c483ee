// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// environment makes a getenv from words "NAME=value".
func environment(words ...string) func(string) string {
	values := map[string]string{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// detected is an environment, and what is found there.
type detected struct {
	name, env string
	want      Found
}

func TestDetect(t *testing.T) {
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	torch := "RANK=2 LOCAL_RANK=0 WORLD_SIZE=4 MASTER_ADDR=node0 MASTER_PORT=29500"
	eight := []string{"node0:29501", "node0:29502", "node0:29503", "node0:29504", "node0:29505", "node0:29506", "node0:29507", "node0:29508"}
	cases := []detected{
		{"explicit", "HFREDUCE_RANK=1 HFREDUCE_WORLD_SIZE=2 HFREDUCE_RENDEZVOUS=tcp://node0:4711 HFREDUCE_JOB_ID=j HFREDUCE_NODE=n",
			Found{Launcher: "HFREDUCE_RANK", Rank: 1, WorldSize: 2, Rendezvous: []string{"node0:4711"}, JobID: "j", Node: "n"}},
		{"explicit alone", "HFREDUCE_RANK=0 HFREDUCE_WORLD_SIZE=1", Found{Launcher: "HFREDUCE_RANK", WorldSize: 1}},
		{"explicit wins", torch + " HFREDUCE_RANK=0 HFREDUCE_WORLD_SIZE=2 HFREDUCE_RENDEZVOUS=[::1]:1,10.0.0.1:2",
			Found{Launcher: "HFREDUCE_RANK", WorldSize: 2, Rendezvous: []string{"[::1]:1", "10.0.0.1:2"}}},
		{"torchrun", torch + " TORCHELASTIC_RUN_ID=id7 TORCHELASTIC_RESTART_COUNT=3",
			Found{Launcher: "torchrun", Rank: 2, WorldSize: 4, Rendezvous: eight, JobID: "torchrun/id7/29500/3"}},
		{"old torch launcher", torch, Found{Launcher: "torchrun", Rank: 2, WorldSize: 4, Rendezvous: eight, JobID: "torchrun//29500/"}},
		{"torch by hand", strings.Replace(torch, "LOCAL_RANK=0", "", 1),
			Found{Launcher: "torch environment", Rank: 2, WorldSize: 4, Rendezvous: eight, JobID: "torchrun//29500/"}},
		{"torchrun with own address", "RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 HFREDUCE_RENDEZVOUS=h:1 HFREDUCE_JOB_ID=mine",
			Found{Launcher: "torchrun", WorldSize: 2, Rendezvous: []string{"h:1"}, JobID: "mine"}},
		{"all settings", "HFREDUCE_RANK=0 HFREDUCE_WORLD_SIZE=1 HFREDUCE_SECRET=s HFREDUCE_INTERFACES=eth0,,10.0.0.0/8 " +
			"HFREDUCE_PORT_RANGE=20000-20010 HFREDUCE_INIT_TIMEOUT=90s",
			Found{Launcher: "HFREDUCE_RANK", WorldSize: 1, Secret: []byte("s"), Interfaces: []string{"eth0", "10.0.0.0/8"},
				PortRange: [2]int{20000, 20010}, Timeout: 90 * time.Second}},
		{"secret file, no deadline", "HFREDUCE_RANK=0 HFREDUCE_WORLD_SIZE=1 HFREDUCE_INIT_TIMEOUT=-1s HFREDUCE_SECRET_FILE=" + secretFile,
			Found{Launcher: "HFREDUCE_RANK", WorldSize: 1, Secret: []byte("from file"), Timeout: -time.Second}},
	}
	cases = append(cases, detectedUnderMPI()...)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Detect(environment(strings.Fields(c.env)...))
			if len(got.Secret) == 0 {
				got.Secret = nil
			}
			if len(got.Interfaces) == 0 {
				got.Interfaces = nil
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestDetectIPv6Master(t *testing.T) {
	for _, addr := range []string{"fd00::1", "[fd00::1]"} {
		f, err := Detect(environment("RANK=0", "LOCAL_RANK=0", "WORLD_SIZE=2", "MASTER_PORT=1", "MASTER_ADDR="+addr))
		if err != nil || f.Rendezvous[0] != "[fd00::1]:2" {
			t.Errorf("%s: %v, %v", addr, f.Rendezvous, err)
		}
	}
}

// Every fault names the variable, its value, and what would be right.
func TestDetectFaults(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours := "HFREDUCE_RANK=0 HFREDUCE_WORLD_SIZE=1 "
	torch := "LOCAL_RANK=0 MASTER_ADDR=node0 MASTER_PORT=29500 "
	cases := []struct{ env, want string }{
		{torch + "RANK=4 WORLD_SIZE=4", "torchrun: RANK=4 with WORLD_SIZE=4: ranks count from 0 to 3"},
		{torch + "RANK=x WORLD_SIZE=4", `RANK="x" is not a whole number within 0..`},
		{torch + "RANK=-1 WORLD_SIZE=4", `RANK="-1" is not a whole number within 0..`},
		{torch + "RANK=0 WORLD_SIZE=0", `WORLD_SIZE="0" is not a whole number within 1..`},
		{torch + "RANK=0 WORLD_SIZE=99999999999999999999", `WORLD_SIZE="99999999999999999999" is not`},
		{torch + "RANK=0", "WORLD_SIZE is missing"},
		{"RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_PORT=1", "MASTER_ADDR is missing: set it to the address of rank 0, or set HFREDUCE_RENDEZVOUS"},
		{"RANK=0 WORLD_SIZE=2 MASTER_PORT=1", "MASTER_ADDR is missing"},
		{"RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=h", "MASTER_PORT is missing"},
		{"RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=h MASTER_PORT=65535", `MASTER_PORT="65535" is not a whole number within 1..65527`},
		{"TORCHELASTIC_RUN_ID=x", "RANK is missing"},
		{"HFREDUCE_RANK=0", "HFREDUCE_WORLD_SIZE is missing"},
		{"HFREDUCE_WORLD_SIZE=2", "HFREDUCE_RANK is missing"},
		{"HFREDUCE_RANK=1 HFREDUCE_WORLD_SIZE=2", "HFREDUCE_RENDEZVOUS is missing: set it to host:port of rank 0"},
		{ours + "HFREDUCE_RENDEZVOUS=node0", `HFREDUCE_RENDEZVOUS="node0": want host:port or tcp://host:port`},
		{ours + "HFREDUCE_RENDEZVOUS=udp://node0:1", `unknown scheme "udp"`},
		{ours + "HFREDUCE_PORT_RANGE=7", `HFREDUCE_PORT_RANGE="7" is not lo-hi with 1 <= lo <= hi <= 65535`},
		{ours + "HFREDUCE_PORT_RANGE=9-8", `HFREDUCE_PORT_RANGE="9-8"`},
		{ours + "HFREDUCE_PORT_RANGE=1-65536", `HFREDUCE_PORT_RANGE="1-65536"`},
		{ours + "HFREDUCE_INIT_TIMEOUT=90", `HFREDUCE_INIT_TIMEOUT="90" is not a duration such as 90s or 5m`},
		{ours + "HFREDUCE_INIT_TIMEOUT=0", `HFREDUCE_INIT_TIMEOUT="0"`},
		{ours + "HFREDUCE_INTERFACES=10.0.0.0/64", `HFREDUCE_INTERFACES: "10.0.0.0/64" is no prefix`},
		{ours + "HFREDUCE_NODE=" + strings.Repeat("n", 256), "HFREDUCE_NODE has 256 bytes, at most 255"},
		{ours + "HFREDUCE_SECRET=hush HFREDUCE_SECRET_FILE=/x", "both HFREDUCE_SECRET and HFREDUCE_SECRET_FILE are set"},
		{ours + "HFREDUCE_SECRET_FILE=/nonesuch", `HFREDUCE_SECRET_FILE="/nonesuch": stat /nonesuch: no such file`},
		{ours + "HFREDUCE_SECRET_FILE=/dev/zero", "not a regular file"},
		{ours + "HFREDUCE_SECRET_FILE=" + empty, "the secret must have 1 to"},
	}
	for _, c := range cases {
		_, err := Detect(environment(strings.Fields(c.env)...))
		mustContain(t, err, "bootstrap: environment of ", c.want)
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
}

func TestDetectReportsAllFaultsAtOnce(t *testing.T) {
	_, err := Detect(environment("HFREDUCE_RANK=x", "HFREDUCE_PORT_RANGE=y", "HFREDUCE_INIT_TIMEOUT=z"))
	mustContain(t, err, `HFREDUCE_RANK="x"`, "HFREDUCE_WORLD_SIZE is missing", `HFREDUCE_PORT_RANGE="y"`, `HFREDUCE_INIT_TIMEOUT="z"`)
}

func TestDetectNoLauncher(t *testing.T) {
	for env, want := range map[string]string{
		"":                     "set HFREDUCE_RANK, HFREDUCE_WORLD_SIZE and HFREDUCE_RENDEZVOUS, or start the program with hfreduce launch, torchrun",
		"RANK=3 MASTER_ADDR=h": "only these are set: RANK=3 MASTER_ADDR=h",
		"SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=4":                  "torchrun, srun or mpirun", // a shell of sbatch
		"PMI_RANK=0 PMI_SIZE=2":                                         "only these are set: PMI_RANK=0",
		"RANK=0 WORLD_SIZE=2 MARSV2_RANK=0 MASTER_ADDR=h MASTER_PORT=1": "RANK=0 WORLD_SIZE=2", // counts machines
	} {
		_, err := Detect(environment(strings.Fields(env)...))
		mustContain(t, err, want)
		if !errors.Is(err, ErrNoLauncher) {
			t.Errorf("%q: %v is no ErrNoLauncher", env, err)
		}
	}
}

func TestHostID(t *testing.T) {
	if id := HostID(); id == "" || id != HostID() || len(id) > maxName {
		t.Errorf("got %q", id)
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("1", "2", "node0:4711", "eth0", "1-2", "5m", "0", "4", "node0", "29500")
	f.Add("", "", "tcp://[::1]:1,x:2", "10.0.0.0/8,ib*", "-", "-1s", "x", "-1", "[fd00::1]", "65535")
	f.Fuzz(func(t *testing.T, rank, size, rendezvous, interfaces, ports, timeout, torchRank, torchSize, addr, port string) {
		values := map[string]string{
			envRank: rank, envWorldSize: size, envRendezvous: rendezvous, envInterfaces: interfaces, envPortRange: ports,
			envInitTimeout: timeout, "RANK": torchRank, "WORLD_SIZE": torchSize, "MASTER_ADDR": addr, "MASTER_PORT": port,
		}
		found, err := Detect(func(name string) string { return values[name] })
		if err != nil {
			return
		}
		cfg := found.Config()
		if err := cfg.complete(); err != nil {
			t.Errorf("%q was accepted, but Join says %v", values, err)
		}
	})
}
