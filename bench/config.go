// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// AllRoots as Config.Root runs every rank as root in turn.
const AllRoots = -1

// Blocking says how a rank waits between iterations (-z).
type Blocking int

// The ways of waiting.
const (
	NoBlocking      Blocking = iota // calls back to back
	WaitAndBarrier                  // wait and a barrier after each call
	WaitOnly                        // wait after each call
	BarrierPerIters                 // wait and a barrier after each iteration; the barrier is not timed
)

// Average says how the times of the ranks become the one that is reported (-a).
type Average int

// The averages.
const (
	RankZero Average = iota // the time of rank 0
	Mean
	Fastest
	Slowest
)

// Config says what Run measures. DefaultConfig returns nccl-tests' defaults; the letter behind each field is the flag.
type Config struct {
	Collectives []Collective
	Types       []hfreduce.DataType // -d
	Ops         []Op                // -o, for collectives that reduce
	Root        int                 // -r, for collectives with a root; AllRoots for each in turn

	MinBytes, MaxBytes int64 // -b, -e: first and last size of the sweep
	StepBytes          int64 // -i: added to a size to get the next, unless StepFactor is above 1
	StepFactor         int64 // -f: multiplied to a size to get the next

	Iters       int // -n: timed iterations
	Warmup      int // -w: iterations for each size before the first measurement
	Aggregate   int // -m: calls in flight together in one iteration
	Cycles      int // -N: how often the sweep is repeated; 0 for ever
	Check       int // -c: verifications of each measurement
	Unalign     int // -u: elements by which buffers are moved from their natural alignment
	Blocking    Blocking
	Average     Average
	Timeout     time.Duration // -T: how long one measurement may take; 0 for ever
	PerIter     bool          // -I: statistics over iterations
	PerIterSkip int           // -K: first iterations that the statistics leave out
	CPUTime     bool          // -C: report the time to start a call, not to end it
	Timestamps  bool          // -S: add a column with the time of day

	Threads      int  // -t: ranks that a process runs
	ParallelInit bool // -p: only reported, the ranks of a process always start in parallel

	// GPUs (-g) puts the buffers into GPU memory: the ranks of a node use its first GPUs in turn, several ranks sharing one if
	// need be. 0: host memory.
	GPUs int
	// Phases (--phase) adds a table of where the time of a call on GPU memory goes.
	Phases bool
	// DeviceChunkBytes is the chunk of the communicators with GPUs, for the measurement of what copies can reach; 0: the
	// library's default.
	DeviceChunkBytes int64

	// Registered takes buffers from Comm.Alloc, which collectives read in place; otherwise they lie on the Go heap.
	Registered bool
	// MinBandwidth fails the run if the average bus bandwidth is below 90 % of it, in GB/s; negative: not checked.
	MinBandwidth float64
	// Split divides the ranks into groups, each of which runs the tests at the same time.
	Split Split

	Args []string // the command line, for the JSON document
	Env  []string // the environment, for the JSON document, which takes only what matters and no secret

	hooks hooks
}

// DefaultConfig returns nccl-tests' defaults: an allreduce of 32 MiB of floats, summed.
func DefaultConfig() Config {
	return Config{
		Collectives: []Collective{AllReduce}, Types: []hfreduce.DataType{hfreduce.TypeFloat32}, Ops: []Op{Sum},
		MinBytes: 32 << 20, MaxBytes: 32 << 20, StepBytes: 1 << 20, StepFactor: 1,
		Iters: 20, Warmup: 1, Aggregate: 1, Cycles: 1, Check: 1, Average: Mean,
		Threads: 1, MinBandwidth: -1,
	}
}

// RanksPerProcess returns how many ranks each process runs.
func (c *Config) RanksPerProcess() int { return c.Threads }

// maxThreadsOnGPU is how many ranks of a process can use GPUs: each has three streams, and CUDA has 32 queues for those of a
// process. Where streams of two ranks share a queue, one's work may stand behind its own wait for the other's.
const maxThreadsOnGPU = 10

// maxTimeout is the longest Timeout.
const maxTimeout = math.MaxInt32 * time.Second

// Validate lists every fault of the configuration in one error. Each names the flag and says what to do.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(len(c.Collectives) == 0 || len(c.Types) == 0 || len(c.Ops) == 0, "no collective, -d or -o is left to run; name at least one of each")
	fault(c.MinBytes < 0, "-b %d is negative; give a size of 0 or more", c.MinBytes)
	fault(c.MinBytes > c.MaxBytes, "-b %d is above -e %d; give -b a size of at most -e", c.MinBytes, c.MaxBytes)
	c.validateSteps(fault)
	fault(c.Iters < 1, "-n %d: give at least 1 iteration", c.Iters)
	fault(c.Warmup < 0, "-w %d is negative; give 0 or more warm-up iterations", c.Warmup)
	fault(c.Aggregate < 1, "-m %d: give at least 1 call in an iteration", c.Aggregate)
	fault(c.Cycles < 0, "-N %d is negative; give the number of cycles, 0 for ever", c.Cycles)
	fault(c.Check < 0, "-c %d is negative; give the number of verifications, 0 for none", c.Check)
	fault(c.Unalign < 0 || c.Unalign > maxUnalign, "-u %d: give 0 to %d elements", c.Unalign, maxUnalign)
	fault(c.Blocking < NoBlocking || c.Blocking > BarrierPerIters, "-z %d: use 0, 1, 2 or 3", c.Blocking)
	fault(c.Average < RankZero || c.Average > Slowest, "-a %d: use 0 (rank 0), 1 (mean), 2 (minimum) or 3 (maximum)", c.Average)
	fault(c.Timeout < 0 || c.Timeout > maxTimeout, "-T %d: give seconds, 0 for no limit", c.Timeout/time.Second)
	fault(c.PerIterSkip < 0 || c.PerIterSkip > 0 && c.PerIterSkip >= c.Iters, "-K %d leaves no iteration of -n %d for -I; give less than -n", c.PerIterSkip, c.Iters)
	fault(c.Threads < 1, "-t %d: give at least 1 thread", c.Threads)
	fault(c.GPUs < 0, "-g %d is negative; give the number of GPUs to use, 0 for host memory", c.GPUs)
	fault(c.GPUs > 0 && c.Threads > maxThreadsOnGPU, "-t %d: the ranks of a process share its queues to the GPUs, which are enough for %d; start more processes instead (-np)", c.Threads, maxThreadsOnGPU)
	fault(c.GPUs > 0 && c.Registered, "--registered is about host memory; leave it out, or -g")
	fault(c.Phases && c.GPUs == 0, "--phase tells of calls on GPU memory; add -g 1 or more")
	fault(c.Root < AllRoots, "-r %d: give a rank, or all", c.Root)
	return errors.Join(errs...)
}

// validateSteps checks that the sweep comes to an end.
func (c *Config) validateSteps(fault func(bad bool, format string, args ...any)) {
	fault(c.StepFactor < 0, "-f %d is negative; give a factor of 2 or more, or 1 to step by -i", c.StepFactor)
	fault(c.StepBytes < 0, "-i %d is negative; give a positive increment", c.StepBytes)
	if c.MinBytes >= c.MaxBytes {
		return
	}
	fault(c.StepFactor > 1 && c.MinBytes == 0, "-b 0 never grows by -f %d; start at -b 1 or more, or step by -i", c.StepFactor)
	fault(c.StepFactor <= 1 && c.StepBytes == 0, "-i 0 never gets from -b %d to -e %d; give a positive increment, or a factor with -f", c.MinBytes, c.MaxBytes)
}

// validateRoot checks the root against the size of the group, which is known only when the ranks have met.
func (c *Config) validateRoot(ranks int) error {
	if c.Root >= ranks {
		return fmt.Errorf("bench: -r %d is not a rank; there are %d, use 0 to %d, or all: %w", c.Root, ranks, ranks-1, hfreduce.ErrInvalid)
	}
	return nil
}
