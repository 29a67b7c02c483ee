// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/bench"
	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/kernelbench"
)

// call runs a command line in this process and returns what it wrote.
func call(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = run(&system{args: append([]string{"hfreduce"}, args...), env: env, stdout: files[0], stderr: files[1]})
	var texts [2]string
	for i, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	return code, texts[0], texts[1]
}

func TestRewrite(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"hfreduce bench -np 8", "bench --np 8"},
		{"hfreduce bench -np8 -b8", "bench --np=8 -b8"},
		{"hfreduce bench -np=8", "bench --np=8"},
		{"hfreduce bench -all -n 5", "bench all -n 5"},
		{"hfreduce bench --all", "bench all"},
		{"hfreduce launch -np 2 -- prog -np 4 -all -- x", "launch --np 2 -- prog -np 4 -all -- x"},
		{"/opt/all_reduce_perf -b 8 -e 1G", "bench all_reduce_perf -b 8 -e 1G"},
		{"/opt/all_reduce_perf bench all_reduce_perf -b 8", "bench all_reduce_perf -b 8"},
		{"reduce_scatter_perf", "bench reduce_scatter_perf"},
		{"hfreduce", ""},
	} {
		if got := strings.Join(rewrite(strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

// parse reads the flags of bench.
func parse(t *testing.T, args ...string) bench.Config {
	t.Helper()
	cfg, err := tryParse(t, nil, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return cfg
}

func tryParse(t *testing.T, env []string, args ...string) (bench.Config, error) {
	t.Helper()
	s := &system{args: append([]string{"hfreduce", "bench"}, args...), env: env}
	c, err := parseCommands(s)
	if err != nil {
		return bench.Config{}, err
	}
	return c.Bench.Collectives.config(s)
}

func TestBenchDefaultsAreThoseOfNCCLTests(t *testing.T) {
	got, want := parse(t), bench.DefaultConfig()
	got.Args = nil
	if !slices.Equal(got.Collectives, want.Collectives) || !slices.Equal(got.Types, want.Types) || !slices.Equal(got.Ops, want.Ops) {
		t.Errorf("%v %v %v", got.Collectives, got.Types, got.Ops)
	}
	if got.MinBytes != 32<<20 || got.MaxBytes != 32<<20 || got.StepBytes != 1<<20 || got.StepFactor != 1 || got.Iters != 20 ||
		got.Warmup != 1 || got.Aggregate != 1 || got.Cycles != 1 || got.Check != 1 || got.Average != bench.Mean || got.Blocking != 0 ||
		got.RanksPerProcess() != 1 || got.MinBandwidth != -1 || got.Root != 0 {
		t.Errorf("%+v", got)
	}
}

// What people pass to nccl-tests, in every spelling that getopt takes.
func TestBenchFlags(t *testing.T) {
	for args, ok := range map[string]func(c bench.Config) bool{
		"-b8 -e 128M -f2": func(c bench.Config) bool {
			return c.MinBytes == 8 && c.MaxBytes == 128<<20 && c.StepFactor == 2
		},
		"--minbytes=8 --maxbytes 1G --stepfactor=2": func(c bench.Config) bool { return c.MinBytes == 8 && c.MaxBytes == 1<<30 },
		"-b 1.5K -e 2K -i 512":                      func(c bench.Config) bool { return c.MinBytes == 1536 && c.StepBytes == 512 },
		"-i 4K -b 4K":                               func(c bench.Config) bool { return c.StepBytes == 4096 },
		"-n 100 -w 5 -m 2 -N 0 -c 0":                func(c bench.Config) bool { return c.Iters == 100 && c.Cycles == 0 && c.Check == 0 && c.Aggregate == 2 },
		"-n100 -w5":                                 func(c bench.Config) bool { return c.Iters == 100 && c.Warmup == 5 },
		"-o all -d all":                             func(c bench.Config) bool { return len(c.Ops) == 6 && len(c.Types) == 12 },
		"-o mulsum -dbfloat16":                      func(c bench.Config) bool { return c.Ops[0] == bench.MulSum && c.Types[0] == hfreduce.TypeBFloat16 },
		"-r all":                                    func(c bench.Config) bool { return c.Root == bench.AllRoots },
		"-r -1":                                     func(c bench.Config) bool { return c.Root == bench.AllRoots },
		"-r 3":                                      func(c bench.Config) bool { return c.Root == 3 },
		"-z 1 -a 3 -T 60": func(c bench.Config) bool {
			return c.Blocking == 1 && c.Average == bench.Slowest && c.Timeout.Seconds() == 60
		},
		"-C 1 -S 1 -I 1 -K 2 -u 3 -p 1": func(c bench.Config) bool {
			return c.CPUTime && c.Timestamps && c.PerIter && c.PerIterSkip == 2 && c.Unalign == 3 && c.ParallelInit
		},
		"-t 2":                                func(c bench.Config) bool { return c.RanksPerProcess() == 2 },
		"-g 4 --phase":                        func(c bench.Config) bool { return c.GPUs == 4 && c.Phases && c.RanksPerProcess() == 1 },
		"--ngpus 2":                           func(c bench.Config) bool { return c.GPUs == 2 },
		"--gpus=2":                            func(c bench.Config) bool { return c.GPUs == 2 },
		"-G 0 -D 0 -V 16 -R 0 -x 0 -y 0 -M 0": func(c bench.Config) bool { return true },
		"-x -1":                               func(c bench.Config) bool { return true },
		"-J out.json":                         func(c bench.Config) bool { return true },
		"all_gather_perf -b 8":                func(c bench.Config) bool { return slices.Equal(c.Collectives, []bench.Collective{bench.AllGather}) },
		"reduce_scatter broadcast":            func(c bench.Config) bool { return len(c.Collectives) == 2 && c.Collectives[1] == bench.Broadcast },
		"-b 4 all -e 16M -f 4":                func(c bench.Config) bool { return len(c.Collectives) == 6 && c.MaxBytes == 16<<20 },
		"--warmup_iters 3 --agg_iters 2 --run_cycles 4":       func(c bench.Config) bool { return c.Warmup == 3 && c.Aggregate == 2 && c.Cycles == 4 },
		"--parallel_init 0 --report_cputime=1 --check=2":      func(c bench.Config) bool { return c.CPUTime && c.Check == 2 },
		"--registered --min-bw 12.5":                          func(c bench.Config) bool { return c.Registered && c.MinBandwidth == 12.5 },
		"-np 8 --nodes 4 -b 4 -e 16M -f 4 -d all -o all -c 1": func(c bench.Config) bool { return len(c.Types) == 12 && c.StepFactor == 4 },
	} {
		if !ok(parse(t, strings.Fields(args)...)) {
			t.Errorf("%s is not understood", args)
		}
	}
}

// "reduce" is a subcommand right behind "bench" and the collective in any other place and spelling.
func TestBenchSubcommands(t *testing.T) {
	for args, want := range map[string]string{
		"bench": "collectives", "bench -b 8": "collectives", "bench all -b 8": "collectives", "bench --np 2 reduce": "collectives",
		"bench all_gather reduce": "collectives", "bench reduce_perf -b 8": "collectives", "bench collectives reduce": "collectives",
		"bench reduce": "reduce", "bench reduce --dtype float": "reduce",
		"bench tune": "tune", "bench tune -np 4 --nodes 2": "tune",
	} {
		c, err := parseCommands(&system{args: append([]string{"hfreduce"}, strings.Fields(args)...)})
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if got := strings.Fields(c.selected.Command())[1]; got != want {
			t.Errorf("%s runs bench %s, want %s", args, got, want)
		}
	}
	if cfg := parse(t, "-b", "8", "reduce"); !slices.Equal(cfg.Collectives, []bench.Collective{bench.Reduce}) || cfg.MinBytes != 8 {
		t.Errorf("%+v", cfg)
	}
}

func TestBenchReduceFlags(t *testing.T) {
	read := func(args string) kernelbench.Config {
		c, err := parseCommands(&system{args: append([]string{"hfreduce", "bench", "reduce"}, strings.Fields(args)...)})
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		cfg := c.Bench.Reduce.config(&system{})
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		return cfg
	}
	if got, want := read(""), kernelbench.DefaultConfig(); !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults are %+v, those of the package %+v", got, want)
	}
	got := read("--dtype half,f8e4m3 --op avg,mulsum --sources 3 --size 64K,1.5M --backend generic --stores plain --out plain,wide --rounds 9 --seed 7 --bind none")
	want := kernelbench.Config{
		Types: []hfreduce.DataType{hfreduce.TypeFloat16, hfreduce.TypeFloat8E4M3}, Ops: []kernelbench.Op{kernelbench.Avg, kernelbench.MulSum},
		Sources: []int{3}, Sizes: []int64{64 << 10, 3 << 19}, Backends: []string{"generic"}, Stores: kernelbench.PlainStores,
		Variants: []kernelbench.Variant{kernelbench.PlainOut, kernelbench.WideOut}, Rounds: 9, Seed: 7, CPU: kernelbench.AnyCPU,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := read("--op all --out all --bind 0"); len(got.Ops) != 6 || len(got.Variants) != 3 || got.CPU != 0 {
		t.Errorf("%+v", got)
	}
}

func TestMinBandwidthFromEnvironment(t *testing.T) {
	for env, want := range map[string]float64{
		"NCCL_TESTS_MIN_BW=10": 10, "HFREDUCE_MIN_BW=2.5": 2.5, "NCCL_TESTS_MIN_BW=0": 0, "OTHER=1": -1,
	} {
		if cfg, err := tryParse(t, []string{env}); err != nil || cfg.MinBandwidth != want {
			t.Errorf("%s: %v, %v", env, cfg.MinBandwidth, err)
		}
	}
	if cfg, err := tryParse(t, []string{"NCCL_TESTS_MIN_BW=1", "HFREDUCE_MIN_BW=2"}, "--min-bw", "3"); err != nil || cfg.MinBandwidth != 3 {
		t.Errorf("the flag does not win: %v, %v", cfg.MinBandwidth, err)
	}
}

// Bad input ends with exit code 2 and a message that names the culprit and says what to do.
func TestBadInput(t *testing.T) {
	checkBadInput(t, []badInput{
		{"bench -b 1Q", "", "--minbytes", "suffix K, M or G"},
		{"bench -b -5", "", "--minbytes", "is not a size"},
		{"bench -b 64M -e 8", "", "-b", "at most -e"},
		{"bench -b 0 -e 8 -f 2", "", "-f 2", "step by -i"},
		{"bench -n 0", "", "-n 0", "at least 1"},
		{"bench -n x", "", "--iters", "expected"},
		{"bench -d float16", "", "--datatype", "bfloat16"},
		{"bench -o xor", "", "--op", "mulsum"},
		{"bench -r x", "", "--root", "all"},
		{"bench -r 5", "", "-r 5", "0 to 1"},
		{"bench -z 7", "", "-z 7", "0, 1, 2 or 3"},
		{"bench -a 9", "", "-a 9", "use 0"},
		{"bench -C 2", "", "--report_cputime", "neither 0 nor 1"},
		{"bench -K 20", "", "-K 20", "less than -n"},
		{"bench -G 3", "", "-G 3", "there are no CUDA kernels here"},
		{"bench -R 1", "", "-R 1", "leave -R out"},
		{"bench -y 1", "", "-y 1", "leave -y out"},
		{"bench -V 8", "", "-V 8", "leave -V out"},
		{"bench -J out.csv", "", "-J out.csv", ".json"},
		{"bench alltoall", "", "alltoall", "use allreduce"},
		{"bench -Q 3", "", "-Q", "hfreduce bench --help"},
		{"bench --iter 3", "", "--iter", "hfreduce bench --help"},
		{"bench -np 0", "", "-np 0", "give 1 to"},
		{"bench -np 2 --nodes 3", "", "--nodes 3", "every node needs a rank"},
		{"bench -np 2", "RANK=0 WORLD_SIZE=2", "-np", "unset RANK and WORLD_SIZE"},
		{"bench", "RANK=x WORLD_SIZE=2", `RANK="x"`, "give a number"},
		{"bench", "RANK=2 WORLD_SIZE=2", `WORLD_SIZE="2"`, "above RANK=2"},
		{"bench", "HFREDUCE_RANK=0", "HFREDUCE_WORLD_SIZE", "a launcher sets both"},
		{"bench", "NCCL_TESTS_SPLIT=MOD", "NCCL_TESTS_SPLIT", "MOD 8"},
		{"bench", "NCCL_TESTS_MIN_BW=fast", "NCCL_TESTS_MIN_BW", "such as 12.5"},
		{"bench --min-bw -3", "", "--min-bw -3", "such as 12.5"},
		{"bench --min-bw nan", "", "--min-bw NaN", "such as 12.5"},
		{"launch -n 0 -- true", "", "-np 0", "give 1 to"},
		{"launch -n 2", "", "no program", "after --"},
		{"launch -- true", "", "--np", "missing"},
		{"launch -n 2 --nodes 3 -- true", "", "--nodes 3", "every node needs a rank"},
		{"launch -n 2 --bind all -- true", "", "--bind", "core"},
		{"launch -n two -- true", "", "--np", "expected"},
		{"frobnicate", "", "frobnicate", "hfreduce --help"},
		{"version --yaml", "", "--yaml", "hfreduce version --help"},
		{"", "", "expected one of", "launch"},
	})
}

func TestUnknownCollectiveIsOneFault(t *testing.T) {
	if _, _, stderr := call(t, nil, "bench", "alltoall"); strings.Count(stderr, "\n") != 1 {
		t.Errorf("more than one line for one fault:\n%s", stderr)
	}
}

func TestOnMachine(t *testing.T) {
	ranks := []hfreduce.RankInfo{{Rank: 0, Machine: "a"}, {Rank: 1, Machine: "b"}, {Rank: 2, Machine: "a", Node: 1}, {Rank: 3, Machine: "a"}}
	for rank, want := range [][2]int{{0, 3}, {0, 1}, {1, 3}, {2, 3}} {
		if index, count := onMachine(ranks, rank); index != want[0] || count != want[1] {
			t.Errorf("rank %d is number %d of %d on its machine, want %v", rank, index, count, want)
		}
	}
}

func TestBadInputOfBenchTune(t *testing.T) {
	checkBadInput(t, []badInput{
		{"bench tune --rounds 0", "", "--rounds 0", "give at least 1"},
		{"bench tune --sizes 3", "", "--sizes", "hfreduce bench tune --help"},
		{"bench tune -np 0", "", "-np 0", "give 1 to"},
		{"bench tune --nodes 3", "", "--nodes 3", "every node needs a rank"},
		{"bench tune -e 1Q", "", "--largest", "suffix K, M or G"},
		{"bench tune all_reduce_perf", "", "all_reduce_perf", "bench"},
	})
}

func TestBadInputOfBenchReduce(t *testing.T) {
	checkBadInput(t, []badInput{
		{"bench reduce --dtype float,int9", "", "--dtype", "bfloat16"},
		{"bench reduce --op xor", "", "--op", "mulsum"},
		{"bench reduce --sources 2,x", "", "--sources", "expected"},
		{"bench reduce --sources 2,99", "", "--sources 99", "give 1 to 32"},
		{"bench reduce --size 8M,1Q", "", "--size", "suffix K, M or G"},
		{"bench reduce --size 1K", "", "--size 1024", "4096"},
		{"bench reduce --backend neon", "", "--backend", "generic"},
		{"bench reduce --stores soft", "", "--stores", "stream"},
		{"bench reduce --stores stream --backend generic", "", "--stores stream", "--stores plain"},
		{"bench reduce --out tall", "", "--out", "second"},
		{"bench reduce --out wide --dtype float", "", "--out wide", "bfloat16"},
		{"bench reduce --rounds 0", "", "--rounds 0", "give 1"},
		{"bench reduce --bind x", "", "--bind", "last or none"},
		{"bench reduce --bind 99999 --size 64K", "", "--bind 99999", "last or none"},
		{"bench reduce -J out.csv", "", "-J out.csv", ".json"},
		{"bench reduce -b 8 -e 64M", "", "-b", "bench reduce_perf"},
		{"bench reduce all_gather", "", "all_gather", "bench reduce_perf"},
	})
}

// badInput is a command line, and what the message about it says.
type badInput struct{ args, env, culprit, remedy string }

func checkBadInput(t *testing.T, all []badInput) {
	t.Helper()
	for _, c := range all {
		code, stdout, stderr := call(t, strings.Fields(c.env), strings.Fields(c.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.culprit) || !strings.Contains(stderr, c.remedy) {
			t.Errorf("%s %s: exit code %d, want 2 and a message with %q and %q, got %q and %q", c.env, c.args, code, c.culprit, c.remedy, stdout, stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{"--help": "bench", "bench -h": "--agg_iters", "bench --help": "bench link, tune, soak and reduce", "bench reduce -h": "--sources", "launch --help": "--nodes", "version --help": "--json"} {
		if code, stdout, _ := call(t, nil, strings.Fields(args)...); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit code %d, %q", args, code, stdout)
		}
	}
}

func TestIdentify(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	if _, launched, err := identify(env()); launched || err != nil {
		t.Errorf("nothing set: %v, %v", launched, err)
	}
	id, launched, err := identify(env("RANK", "1", "WORLD_SIZE", "4", "MASTER_ADDR", "::1", "MASTER_PORT", "29500"))
	if !launched || err != nil || id.process != 1 || id.processes != 4 || id.rendezvous != "[::1]:29501" {
		t.Errorf("torchrun: %+v, %v", id, err)
	}
	id, _, err = identify(env("RANK", "1", "WORLD_SIZE", "4", "HFREDUCE_RANK", "2", "HFREDUCE_WORLD_SIZE", "3", "HFREDUCE_RENDEZVOUS", "h:1"))
	if err != nil || id.process != 2 || id.processes != 3 || id.rendezvous != "h:1" {
		t.Errorf("explicit: %+v, %v", id, err)
	}
}

// TestProcessesOfLaunchersJoin: what launchers of MPI programs have started is a rank of their job, unless it is alone.
func TestProcessesOfLaunchersJoin(t *testing.T) {
	for _, c := range []struct {
		env  string
		want identity
		job  bool
	}{
		{"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4", identity{1, 4, "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE", ""}, true},
		{"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", identity{}, false},
		{"PMI_RANK=0 PMI_SIZE=2 HFREDUCE_RENDEZVOUS=h:1", identity{0, 2, "PMI_RANK and PMI_SIZE", "h:1"}, true},
		{"SLURM_PROCID=7 SLURM_STEP_NUM_TASKS=8", identity{7, 8, "SLURM_PROCID and SLURM_STEP_NUM_TASKS", ""}, true},
		{"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", identity{1, 2, "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE", ""}, true},
		{"SLURM_PROCID=0 SLURM_NTASKS=8", identity{}, false}, // a shell of sbatch
		{"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=8 RANK=2 WORLD_SIZE=3", identity{2, 3, "RANK and WORLD_SIZE", ""}, true},
	} {
		values := map[string]string{}
		for _, pair := range strings.Fields(c.env) {
			name, value, _ := strings.Cut(pair, "=")
			values[name] = value
		}
		if got, launched, err := identify(func(name string) string { return values[name] }); got != c.want || launched != c.job || err != nil {
			t.Errorf("%s: %+v, %t, %v, want %+v", c.env, got, launched, err, c.want)
		}
	}
	checkBadInput(t, []badInput{
		{"bench -np 2", "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=8", "-np and --nodes start ranks, but SLURM_PROCID and SLURM_STEP_NUM_TASKS", "process 0 of 8"},
		{"bench soak --nodes 2", "PMI_RANK=0 PMI_SIZE=2", "PMI_RANK and PMI_SIZE say", "leave them out"},
		{"bench", "PMI_RANK=2 PMI_SIZE=2", `PMI_SIZE="2" is not a number above PMI_RANK=2`, "a launcher sets both"},
		{"bench", "PMI_RANK=1 PMI_SIZE=2", "no launcher found", "torchrun, srun or mpirun"}, // a launcher without the protocol
	})
}

func TestDocumentsAreNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.json")
	for _, want := range []string{path, path + ".0", path + ".1"} {
		f, err := createDocument(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() != want {
			t.Errorf("writes to %s, want %s", f.Name(), want)
		}
		_, _ = f.WriteString("result")
		_ = f.Close()
	}
	empty := filepath.Join(t.TempDir(), "empty.json")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := createDocument(empty); err != nil || f.Name() != empty {
		t.Errorf("an empty file, as mktemp makes, is not used: %v", err)
	}
	if _, err := createDocument("/no/such/folder/out.json"); err == nil {
		t.Error("a folder that is not there passes")
	}
}
