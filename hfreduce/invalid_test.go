// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBadArguments makes every bad call on one rank alone: it must fail at once, name the culprit, change nothing, and
// leave the Comm usable.
func TestBadArguments(t *testing.T) {
	comms := newWorld(t, blocks(2, 1), Options{})
	c, ctx := comms[1], context.Background()
	x, y, ints, three := make([]float32, 4), make([]float32, 4), make([]int32, 4), make([]float32, 3)
	raw := make([]byte, 7)
	for i := range x {
		x[i], y[i] = 1, 2
	}
	tests := []struct {
		name string
		call func() error
		want string // part of the message
	}{
		{"zero dst", func() error { return c.AllReduce(ctx, Buffer{}, Host(x), Sum) }, "dst is the zero Buffer"},
		{"zero src", func() error { return c.AllReduce(ctx, Host(x), Buffer{}, Sum) }, "src is the zero Buffer"},
		{"unequal length", func() error { return c.AllReduce(ctx, Host(x), Host(three), Sum) }, "dst has 4 elements and src 3"},
		{"unequal type", func() error { return c.AllReduce(ctx, Host(x), Host(ints), Sum) }, "dst holds float and src int32"},
		{"overlap", func() error { return c.AllReduce(ctx, Host(x[:3]), Host(x[1:]), Sum) }, "overlap"},
		{"unknown type", func() error { return c.AllReduce(ctx, Bytes(raw, 99), Bytes(raw, 99), Sum) }, "unknown data type DataType(99)"},
		{"half an element", func() error { return c.AllReduce(ctx, Bytes(raw, TypeFloat32), Bytes(raw, TypeFloat32), Sum) }, "7 bytes, not a multiple"},
		{"unknown op", func() error { return c.AllReduce(ctx, Host(x), Host(x), Op{kind: 77}) }, "unknown operator Op(77)"},
		{"fraction of an int", func() error { return c.AllReduce(ctx, Host(ints), Host(ints), PreMulSum(0.5)) }, "0.5 is not an integer"},
		{"huge factor", func() error { return c.AllReduce(ctx, Host(x), Host(x), PreMulSum(1e39)) }, "1e+39 is too large"},
		{"NaN factor", func() error { return c.AllReduce(ctx, Host(x), Host(x), PreMulSum(math.NaN())) }, "NaN is not finite"},
		{"async", func() error { _, err := c.AllReduceAsync(Host(x), Host(three), Sum); return err }, "dst has 4 elements and src 3"},
		{"root too large", func() error { return c.Reduce(ctx, Host(x), Host(x), Sum, 2) }, "root 2 is not within 0..1"},
		{"root negative", func() error { return c.Broadcast(ctx, Host(x), Host(x), -1) }, "root -1 is not within 0..1"},
		{"root without dst", func() error { return c.Reduce(ctx, Buffer{}, Host(x), Sum, 1) }, "dst is the zero Buffer"},
		{"root without src", func() error { return c.Broadcast(ctx, Host(x), Buffer{}, 1) }, "src is the zero Buffer"},
		{"scatter count", func() error { return c.ReduceScatter(ctx, Host(three), Host(x), Sum) }, "src 4; src needs 6"},
		{"scatter overlap", func() error { return c.ReduceScatter(ctx, Host(x[:2]), Host(x), Sum) }, "not this rank's block"},
		{"gather count", func() error { return c.AllGather(ctx, Host(x), Host(three)) }, "dst 4; dst needs 6"},
		{"gather overlap", func() error { return c.AllGather(ctx, Host(x), Host(x[1:3])) }, "pass elements [2:4] of dst"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call()
			var op *OpError
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &op) || op.Rank != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want ErrInvalid on rank 1 with %q", err, tt.want)
			}
		})
	}
	for i := range x {
		if x[i] != 1 || y[i] != 2 {
			t.Fatalf("a refused call changed its buffers: %v %v", x, y)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.AllReduce(ended, Host(x), Host(x), Sum); !errors.Is(err, context.Canceled) {
		t.Fatalf("call with an ended context: %v", err)
	}
	each(t, comms, func(c *Comm) error { return c.Barrier(ctx) }) // still usable
}

func TestClosedComm(t *testing.T) {
	comms := newWorld(t, blocks(2, 2), Options{})
	each(t, comms, func(c *Comm) error { return c.Close(context.Background()) })
	c, ctx := comms[0], context.Background()
	x := make([]float32, 4)
	_, asyncErr := c.BarrierAsync()
	_, splitErr := c.Split(ctx, 0, 0)
	_, allocErr := c.Alloc(1)
	for name, err := range map[string]error{
		"AllReduce": c.AllReduce(ctx, Host(x), Host(x), Sum), "Barrier": c.Barrier(ctx), "BarrierAsync": asyncErr,
		"Split": splitErr, "Alloc": allocErr, "Close": c.Close(ctx),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s on a closed Comm: %v", name, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	valid := Options{WorldSize: 2, Rendezvous: "127.0.0.1:1"}
	tests := []struct {
		name   string
		change func(o *Options)
		env    map[string]string
		want   string
	}{
		{"rank", func(o *Options) { o.Rank = 2 }, nil, "Rank 2 is not within 0..1"},
		{"negative rank", func(o *Options) { o.Rank = -1 }, nil, "Rank -1 is not within"},
		{"world size", func(o *Options) { o.WorldSize = -2 }, nil, "WorldSize -2 is not positive"},
		{"chunk", func(o *Options) { o.ChunkBytes = 5000 }, nil, "ChunkBytes 5000 is not a multiple of 4096"},
		{"one pass", func(o *Options) { o.OnePassBytes = 1 << 30 }, nil, "OnePassBytes 1073741824 is more than"},
		{"slots", func(o *Options) { o.Slots = 1000 }, nil, "Slots 1000 is not a power of two within 1..256"},
		{"slots that meet where numbers wrap", func(o *Options) { o.Slots = 3 }, nil, "Slots 3 is not a power of two"},
		{"device slots", func(o *Options) { o.DeviceSlots = 6 }, nil, "DeviceSlots 6 is not a power of two"},
		{"device chunk", func(o *Options) { o.DeviceChunkBytes = 4096 }, nil, "DeviceChunkBytes 4096 is not a multiple of 4096 between ChunkBytes"},
		{"device threads", func(o *Options) { o.DeviceThreads = -1 }, nil, "DeviceThreads -1 is not within 0..64"},
		{"cuda", func(o *Options) { o.CUDA = "maybe" }, nil, `CUDA "maybe" is unknown; there are: auto, on, off`},
		{"heartbeat", func(o *Options) { o.HeartbeatTimeout = time.Second }, nil, "HeartbeatTimeout 1s is not within 2s..10m0s"},
		{"negative heartbeat", func(o *Options) { o.HeartbeatTimeout = -1 }, nil, "HeartbeatTimeout -1ns is not within"},
		{"env heartbeat", nil, map[string]string{"HFREDUCE_HEARTBEAT_TIMEOUT": "5"}, `HFREDUCE_HEARTBEAT_TIMEOUT="5" is not a duration`},
		{"env short heartbeat", nil, map[string]string{"HFREDUCE_HEARTBEAT_TIMEOUT": "1s"}, "HeartbeatTimeout 1s is not within"},
		{"transport", func(o *Options) { o.Transport = "pigeon" }, nil, `Transport "pigeon" is unknown`},
		{"verbs MTU", func(o *Options) { o.Verbs.MTU = 1500 }, nil, "Verbs.MTU 1500 is not 256"},
		{"verbs retry", func(o *Options) { o.Verbs.Retry = 7 }, nil, "Verbs.Retry 7 is not within 0..6"},
		{"verbs device", func(o *Options) { o.Verbs.Devices = []string{"a", " "} }, nil, "has an empty name"},
		{"env verbs", nil, map[string]string{"HFREDUCE_VERBS_TIMEOUT": "soon"}, `HFREDUCE_VERBS_TIMEOUT="soon" is not a number`},
		{"ports", func(o *Options) { o.PortRange = "9-3" }, nil, `PortRange "9-3" is not`},
		{"fault", func(o *Options) { o.Fault = "drop; boom" }, nil, `option Fault: rule 2 "boom": there is no action "boom"`},
		{"fault of a rank that is not", func(o *Options) { o.Fault = "drop rank=2" }, nil, `option Fault: rule 1 "drop rank=2": rank 2 does not exist, the ranks are 0 to 1`},
		{"env fault", nil, map[string]string{"HFREDUCE_FAULT": "kill"}, "kill without rank= would end every rank"},
		{"no rendezvous", func(o *Options) { o.Rendezvous = "" }, nil, "HFREDUCE_RENDEZVOUS"},
		{"two faults", func(o *Options) { o.Slots, o.ChunkBytes = -1, 1 }, nil, "Slots -1"},
		{"env slots", nil, map[string]string{"HFREDUCE_SLOTS": "many"}, `HFREDUCE_SLOTS="many" is not a positive number`},
		{"env timeout", nil, map[string]string{"HFREDUCE_TIMEOUT": "10"}, `HFREDUCE_TIMEOUT="10" is not a duration`},
		{"env log", nil, map[string]string{"HFREDUCE_LOG": "loud"}, `HFREDUCE_LOG="loud" is not debug, info, warn or error`},
		{"env checksum", nil, map[string]string{"HFREDUCE_CHECKSUM": "crc"}, `HFREDUCE_CHECKSUM="crc" is neither 1 nor 0`},
		{"env secret file", nil, map[string]string{"HFREDUCE_SECRET_FILE": "/does/not/exist"}, "HFREDUCE_SECRET_FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := valid
			if tt.change != nil {
				tt.change(&o)
			}
			_, err := o.resolve(func(name string) string { return tt.env[name] })
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
	if _, err := NewLocal(nil, Options{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("NewLocal without ranks: %v", err)
	}
}

// In a field 0 is the default, so that what a variable sets to 0 becomes negative.
func TestOnePassBytesNone(t *testing.T) {
	for _, c := range []struct {
		field    int
		variable string
		want     int
	}{{0, "", DefaultOnePassBytes}, {0, "0", 0}, {-1, "4096", 0}, {64, "0", 64}} {
		o := Options{Rank: 0, WorldSize: 1, OnePassBytes: c.field}
		if _, err := o.resolve(func(name string) string { return map[string]string{"HFREDUCE_ONE_PASS_BYTES": c.variable}[name] }); err != nil {
			t.Errorf("field %d, variable %q: %v", c.field, c.variable, err)
		} else if o.OnePassBytes != c.want {
			t.Errorf("field %d, variable %q: %d, want %d", c.field, c.variable, o.OnePassBytes, c.want)
		}
	}
	o := Options{WorldSize: 1}
	if _, err := o.resolve(func(name string) string { return map[string]string{"HFREDUCE_ONE_PASS_BYTES": "-1"}[name] }); err == nil {
		t.Error("a negative variable is taken")
	}
}

// Where a launcher tells the rank and the program where to meet, the launcher need not know that.
func TestRendezvousBesideLauncher(t *testing.T) {
	for _, env := range []map[string]string{
		{"HFREDUCE_RANK": "1", "HFREDUCE_WORLD_SIZE": "4"},
		{"RANK": "1", "WORLD_SIZE": "4"},
		{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
		{"PMI_RANK": "1", "PMI_SIZE": "4", "PMI_FD": "3"},
		{"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n["},
		{"HFREDUCE_RANK": "1", "HFREDUCE_WORLD_SIZE": "4", "HFREDUCE_RENDEZVOUS": "elsewhere:1"},
	} {
		o := Options{Rendezvous: "host:7"}
		found, err := o.resolve(func(name string) string { return env[name] })
		if err != nil || o.Rank != 1 || o.WorldSize != 4 || !slices.Equal(found.Rendezvous, []string{"host:7"}) || found.Meet != nil {
			t.Errorf("%v: rank %d of %d, at %v, %v", env, o.Rank, o.WorldSize, found.Rendezvous, err)
		}
	}
}

func TestOptionsFromEnvironment(t *testing.T) {
	env := map[string]string{
		"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000",
		"HFREDUCE_CHUNK_BYTES": "8192", "HFREDUCE_SLOTS": "2", "HFREDUCE_ONE_PASS_BYTES": "4096", "HFREDUCE_TIMEOUT": "7s", "HFREDUCE_HEARTBEAT_TIMEOUT": "3s", "HFREDUCE_SECRET": "s3cret", "HFREDUCE_NODE": "n1",
		"HFREDUCE_CHECKSUM": "1", "HFREDUCE_VERIFY_RESULTS": "0",
		"HFREDUCE_TRANSPORT": "verbs", "HFREDUCE_VERBS_DEVICES": "mlx5_0, mlx5_1:2", "HFREDUCE_VERBS_GID_INDEX": "0", "HFREDUCE_VERBS_QUEUE_PAIRS": "4",
		"HFREDUCE_FAULT": "drop p=0.5",
	}
	o := Options{Slots: 8, Verbs: VerbsOptions{Timeout: 20}}
	found, err := o.resolve(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if o.Rank != 1 || o.WorldSize != 3 || o.ChunkBytes != 8192 || o.Slots != 8 || o.OnePassBytes != 4096 || o.Timeout != 7*time.Second || o.HeartbeatTimeout != 3*time.Second || o.Node != "n1" || !o.Checksum || o.VerifyResults {
		t.Errorf("options %v", o)
	}
	if want := "{devices=mlx5_0,mlx5_1:2 gid_index=-1 timeout=20 queue_pairs=4}"; o.Transport != TransportVerbs || o.Verbs.String() != want {
		t.Errorf("transport %s, verbs %v, want %s", o.Transport, o.Verbs, want)
	}
	if o.Fault != "drop p=0.5" {
		t.Errorf("fault %q", o.Fault)
	}
	if found.Launcher != "torchrun" || len(found.Rendezvous) == 0 || found.Rendezvous[0] != "10.0.0.1:4001" {
		t.Errorf("launcher %q, rendezvous %q", found.Launcher, found.Rendezvous)
	}
	if strings.Contains(o.String(), "s3cret") {
		t.Errorf("String shows the secret: %v", o)
	}
}

// TestBadEnvironmentNamesTheRank: of a thousand ranks one has a variable that is wrong.
func TestBadEnvironmentNamesTheRank(t *testing.T) {
	for name, value := range map[string]string{"HFREDUCE_SLOTS": "many", "HFREDUCE_PORT_RANGE": "9-8"} { // read here, and by bootstrap
		t.Run(name, func(t *testing.T) {
			t.Setenv("HFREDUCE_RANK", "3")
			t.Setenv("HFREDUCE_WORLD_SIZE", "4")
			t.Setenv("HFREDUCE_RENDEZVOUS", "127.0.0.1:1")
			t.Setenv(name, value)
			_, err := Init(t.Context(), Options{})
			var op *OpError
			if !errors.As(err, &op) || op.Rank != 3 || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
				t.Errorf("Init returned %v", err)
			}
		})
	}
}

// TestBadOptionsOfTheMeeting are those that package bootstrap knows of.
func TestBadOptionsOfTheMeeting(t *testing.T) {
	for want, o := range map[string]Options{
		`rendezvous "nonsense": want host:port`: {Rank: 1, WorldSize: 2, Rendezvous: "nonsense"},
		"world size 1073741824 is not within":   {WorldSize: 1 << 30, Rendezvous: "127.0.0.1:1"},
		"the node name has 300 bytes":           {WorldSize: 1, Node: strings.Repeat("n", 300)},
		`"10.0.0.0/64" is no prefix`:            {WorldSize: 1, Interfaces: []string{"10.0.0.0/64"}},
	} {
		if c, err := Init(t.Context(), o); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Init returned %v, %v, want ErrInvalid with %q", c, err, want)
		}
	}
}
