// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
	"github.com/hfreduce/hfreduce/hfreduce/internal/kernel"
	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// The defaults of Options. ChunkBytes and OnePassBytes are what `hfreduce bench tune` found on the machine of
// docs/performance.md, in all layouts of two and four ranks; Slots has DefaultSlots.
const (
	DefaultChunkBytes   = 512 << 10
	DefaultOnePassBytes = 16 << 10
	// With GPUs (docs/performance.md).
	DefaultDeviceChunkBytes = 4 << 20
	DefaultInitTimeout      = 5 * time.Minute
	DefaultTimeout          = 10 * time.Minute
	DefaultHeartbeatTimeout = pulse.Usual
)

// Bounds of ChunkBytes and Slots.
const (
	minChunkBytes   = 4 << 10
	maxChunkBytes   = 1 << 30
	maxSlots        = 256
	maxOnePassBytes = 16 << 20

	minHeartbeatTimeout = 2 * time.Second  // the kernel probes once a second at most
	maxHeartbeatTimeout = 10 * time.Minute // and gives up by itself soon after that
)

// Options configure Init and NewLocal. The zero value takes everything from the launcher's environment and the
// defaults; a field that is set wins over its environment variable, HFREDUCE_ and the field's name in capitals
// (ChunkBytes: HFREDUCE_CHUNK_BYTES). All ranks must agree on JobID, Secret, whether there is TLS, Transport, ChunkBytes,
// Slots, OnePassBytes, DeviceChunkBytes, DeviceSlots, Checksum and VerifyResults.
//
// HFREDUCE_KERNEL (avx512, avx2, generic) overrides the choice of the reduction kernels for the whole process. All of them
// give the same bits.
type Options struct {
	// Rank and WorldSize: this rank's number and the number of ranks. WorldSize 0: both from the launcher.
	Rank, WorldSize int
	// Rendezvous is "host:port" (or "tcp://host:port") of rank 0, which listens there. If that is a loopback address, all ranks
	// listen on loopback only, but for those that Interfaces lets listen elsewhere.
	Rendezvous string
	// JobID keeps jobs apart that meet at one address. Any text.
	JobID string
	// Secret, when set, authenticates every connection by HMAC-SHA256, in both directions. HFREDUCE_SECRET_FILE names a
	// file that holds it.
	Secret []byte
	// TLS, when set, encrypts every TCP connection and authenticates both ends by certificates. TransportAuto then means TCP,
	// since RDMA carries payload in clear. From the environment: HFREDUCE_TLS_CERT, HFREDUCE_TLS_KEY, HFREDUCE_TLS_CA.
	TLS *TLSOptions
	// Node overrides the identity of the host: ranks with equal Node share a node, ranks with different Node talk over
	// the network, also on one machine.
	Node string
	// Interfaces restricts the network interfaces that are offered to peers, by name ("eth0") or prefix
	// ("10.1.0.0/16"). Empty: all that can reach the peer. If that leaves one address, a rank but 0 listens on no other.
	Interfaces []string
	// PortRange, "lo-hi", bounds the port that this rank listens on. Empty: the system chooses.
	PortRange string
	// Transport carries data between nodes: TransportAuto, TransportTCP or TransportVerbs. Empty: TransportAuto.
	Transport string
	// Verbs says how RDMA is used.
	Verbs VerbsOptions
	// ChunkBytes is the unit of the pipeline, a multiple of 4096; 0: DefaultChunkBytes. On three nodes and more buffers of some
	// MiB are cut smaller, since deep trees are slow to fill.
	ChunkBytes int
	// Slots is how many chunks are in flight, a power of two, which bounds the staging memory: a node with L ranks uses
	// about Slots*ChunkBytes*(L+3) bytes. 0: DefaultSlots of each communicator's nodes.
	Slots int
	// OnePassBytes is the size up to which the ranks of a communicator on a single node each add all inputs themselves,
	// instead of a part of each chunk: one meeting of the ranks where that takes three. 0: DefaultOnePassBytes; negative,
	// and 0 in the environment: none.
	OnePassBytes int
	// CUDA says whether buffers may lie in the memory of GPUs: CUDAAuto, CUDAOn or CUDAOff. Empty: CUDAAuto. If any rank says
	// so, the communicator is made for GPUs on all ranks.
	CUDA string
	// DeviceChunkBytes takes the place of ChunkBytes in a communicator made for GPUs, as the largest chunk: the pipeline's
	// unit grows with the buffer from ChunkBytes to it, since each chunk costs a GPU call and copies like to be large. 0:
	// DefaultDeviceChunkBytes, or less where so many slots would hold more than 64 MiB of a rank.
	DeviceChunkBytes int
	// DeviceSlots takes the place of Slots there. 0: DefaultSlots, but at least 8,
	// and at least 16 where no node has more than three ranks.
	DeviceSlots int
	// DeviceThreads is how many threads add for this rank in a communicator made for GPUs; ranks may differ. 0: what it has
	// of processors to itself, at most 4.
	DeviceThreads int
	// Checksum compares all data with a CRC32C of what it was, each time a rank reads what another one has put into shared
	// memory or sent; what differs breaks the Comm with ErrCorrupt, which names the two ranks. docs/integrity.md says what that
	// covers and costs. It is also on if HFREDUCE_CHECKSUM says so.
	Checksum bool
	// VerifyResults makes the ranks compare hashes of their results after each AllReduce, Broadcast and AllGather, and breaks the
	// Comm with ErrCorrupt, which names the ranks that differ, unless all are equal. Results on GPUs are refused. It is also on
	// if HFREDUCE_VERIFY_RESULTS says so.
	VerifyResults bool
	// InitTimeout bounds the meeting of the ranks in Init and Split. 0: DefaultInitTimeout; negative: none.
	InitTimeout time.Duration
	// Timeout breaks the Comm when a collective has made no progress for so long. 0: DefaultTimeout; negative: none.
	Timeout time.Duration
	// HeartbeatTimeout is how long a host may be unreachable before its ranks are lost, 2 seconds to 10 minutes; ranks may
	// differ. Kernels answer for their processes: a rank that is stopped or busy on a host that answers is not lost, that is
	// for Timeout to decide. The kernel probes an idle host once a second, so a bound of few seconds takes a network that often
	// loses packets for one that is cut. 0: DefaultHeartbeatTimeout.
	HeartbeatTimeout time.Duration
	// Fault injects faults, for tests of what a job does then: rules such as "delay=5ms rank=1 p=0.1; kill rank=2 call=3",
	// which docs/testing.md lists. Give all ranks the same. Empty: none.
	Fault string
	// Logger gets what happens during Init and when something breaks. nil: warnings and worse go to stderr, or what
	// HFREDUCE_LOG (debug, info, warn, error) says.
	Logger *slog.Logger
}

// String returns the options as they are used, without the secret.
func (o Options) String() string {
	return fmt.Sprintf("rank=%d world_size=%d rendezvous=%s job_id=%q secret=%t tls=%t node=%q interfaces=%s port_range=%q transport=%s verbs=%v chunk_bytes=%d slots=%d one_pass_bytes=%d cuda=%s device_chunk_bytes=%d device_slots=%d device_threads=%d checksum=%t verify_results=%t init_timeout=%v timeout=%v heartbeat_timeout=%v fault=%q",
		o.Rank, o.WorldSize, o.Rendezvous, o.JobID, len(o.Secret) > 0, o.TLS != nil, o.Node, strings.Join(o.Interfaces, ","), o.PortRange, o.Transport, o.Verbs, o.ChunkBytes, o.Slots, o.OnePassBytes, o.CUDA, o.DeviceChunkBytes, o.DeviceSlots, o.DeviceThreads, o.Checksum, o.VerifyResults, o.InitTimeout, o.Timeout, o.HeartbeatTimeout, o.Fault)
}

// fromEnvironment fills the fields that are not set from HFREDUCE_ variables and, for Rank and WorldSize, from the
// launcher's. What is found of where the ranks meet and who launched them counts.
func (o *Options) fromEnvironment(getenv func(string) string) (found bootstrap.Found, err error) {
	read := bootstrap.Settings
	if o.WorldSize == 0 && o.Rank == 0 {
		read = bootstrap.Detect
	}
	found, foundErr := read(func(name string) string {
		if name == "HFREDUCE_RENDEZVOUS" && o.Rendezvous != "" {
			return "localhost:1" // the field wins, below: what it has is not missing
		}
		return getenv(name)
	})
	if found.Launcher != "" { // before the faults, which are to name this rank
		o.Rank, o.WorldSize = found.Rank, found.WorldSize
	}
	if err := errors.Join(foundErr, o.ownEnvironment(getenv)); err != nil {
		return found, err
	}
	o.JobID, o.Node = cmp.Or(o.JobID, found.JobID), cmp.Or(o.Node, found.Node)
	o.InitTimeout = cmp.Or(o.InitTimeout, found.Timeout)
	if len(o.Secret) == 0 {
		o.Secret = found.Secret
	}
	if len(o.Interfaces) == 0 {
		o.Interfaces = found.Interfaces
	}
	if o.PortRange == "" && found.PortRange != [2]int{} {
		o.PortRange = fmt.Sprintf("%d-%d", found.PortRange[0], found.PortRange[1])
	}
	if o.Rendezvous != "" {
		found.Rendezvous = []string{o.Rendezvous}
	}
	return found, nil
}

// ownEnvironment reads the variables that are not about meeting.
func (o *Options) ownEnvironment(getenv func(string) string) error {
	var errs []error
	number := func(field *int, name string) {
		if v := getenv(name); *field == 0 && v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n <= 0 {
				errs = append(errs, fmt.Errorf("%s=%q is not a positive number", name, v))
			}
			*field = n
		}
	}
	number(&o.ChunkBytes, "HFREDUCE_CHUNK_BYTES")
	number(&o.Slots, "HFREDUCE_SLOTS")
	if v := getenv("HFREDUCE_ONE_PASS_BYTES"); v == "0" {
		o.OnePassBytes = cmp.Or(o.OnePassBytes, -1) // none; a field of 0 means the default
	} else {
		number(&o.OnePassBytes, "HFREDUCE_ONE_PASS_BYTES")
	}
	number(&o.DeviceChunkBytes, "HFREDUCE_DEVICE_CHUNK_BYTES")
	number(&o.DeviceSlots, "HFREDUCE_DEVICE_SLOTS")
	number(&o.DeviceThreads, "HFREDUCE_DEVICE_THREADS")
	o.CUDA = cmp.Or(o.CUDA, getenv("HFREDUCE_CUDA"))
	flag := func(field *bool, name string) {
		if v := getenv(name); !*field && v != "" {
			on, err := strconv.ParseBool(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s=%q is neither 1 nor 0", name, v))
			}
			*field = on
		}
	}
	flag(&o.Checksum, "HFREDUCE_CHECKSUM")
	flag(&o.VerifyResults, "HFREDUCE_VERIFY_RESULTS")
	duration := func(field *time.Duration, name string) {
		if v := getenv(name); *field == 0 && v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s=%q is not a duration such as 30s or 5m", name, v))
			}
			*field = d
		}
	}
	duration(&o.Timeout, "HFREDUCE_TIMEOUT")
	duration(&o.HeartbeatTimeout, "HFREDUCE_HEARTBEAT_TIMEOUT")
	o.Transport = cmp.Or(o.Transport, getenv("HFREDUCE_TRANSPORT"))
	o.Fault = cmp.Or(o.Fault, getenv("HFREDUCE_FAULT"))
	errs = append(errs, o.Verbs.fromEnvironment(getenv)...)
	o.tlsFromEnvironment(getenv)
	if o.Logger == nil {
		level := slog.LevelWarn
		if v := getenv("HFREDUCE_LOG"); v != "" {
			if err := level.UnmarshalText([]byte(v)); err != nil {
				errs = append(errs, fmt.Errorf("HFREDUCE_LOG=%q is not debug, info, warn or error", v))
			}
		}
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	return errors.Join(errs...)
}

// defaults fills what is still open.
func (o *Options) defaults() {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&o.ChunkBytes, DefaultChunkBytes}, {&o.OnePassBytes, DefaultOnePassBytes},
	} {
		*f.field = cmp.Or(*f.field, f.value)
	}
	o.OnePassBytes = max(0, o.OnePassBytes)
	o.InitTimeout = cmp.Or(o.InitTimeout, DefaultInitTimeout)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.HeartbeatTimeout = cmp.Or(o.HeartbeatTimeout, DefaultHeartbeatTimeout)
	o.defaultTransport()
	o.CUDA = cmp.Or(o.CUDA, CUDAAuto)
}

// validate lists every fault of the options in one error.
func (o *Options) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.WorldSize < 1, "WorldSize %d is not positive", o.WorldSize)
	fault(o.WorldSize > 0 && (o.Rank < 0 || o.Rank >= o.WorldSize), "Rank %d is not within 0..%d (WorldSize %d)", o.Rank, o.WorldSize-1, o.WorldSize)
	fault(o.ChunkBytes < minChunkBytes || o.ChunkBytes > maxChunkBytes || o.ChunkBytes%minChunkBytes != 0,
		"ChunkBytes %d is not a multiple of %d between %d and %d", o.ChunkBytes, minChunkBytes, minChunkBytes, maxChunkBytes)
	fault(o.Slots != 0 && !validSlots(o.Slots), "Slots %d is not a power of two within 1..%d", o.Slots, maxSlots)
	fault(o.OnePassBytes > maxOnePassBytes, "OnePassBytes %d is more than %d", o.OnePassBytes, maxOnePassBytes)
	transports := []string{TransportAuto, TransportTCP, TransportVerbs}
	fault(!slices.Contains(transports, o.Transport), "Transport %q is unknown; there are: %s", o.Transport, strings.Join(transports, ", "))
	errs = append(errs, o.TLS.check()...)
	fault(o.HeartbeatTimeout < minHeartbeatTimeout || o.HeartbeatTimeout > maxHeartbeatTimeout,
		"HeartbeatTimeout %v is not within %v..%v", o.HeartbeatTimeout, minHeartbeatTimeout, maxHeartbeatTimeout)
	errs = append(errs, o.Verbs.check()...)
	errs = append(errs, o.checkCUDA()...)
	if _, err := parsePortRange(o.PortRange); err != nil {
		errs = append(errs, err)
	}
	if _, err := o.faults(); err != nil {
		errs = append(errs, err)
	}
	if _, err := kernel.Selected(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return invalidf("options: %w", err)
	}
	return nil
}

// validSlots reports whether a ring may have so many slots. Chunks go round it by their number, which wraps at 2^32: only a
// power of two then gives two chunks in flight different slots.
func validSlots(n int) bool { return n >= 1 && n <= maxSlots && n&(n-1) == 0 }

// parsePortRange reads "lo-hi".
func parsePortRange(s string) (r [2]int, err error) {
	if s == "" {
		return r, nil
	}
	lo, hi, found := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(strings.TrimSpace(lo), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(hi), 10, 16)
	if !found || errA != nil || errB != nil || a == 0 || a > b {
		return r, fmt.Errorf("PortRange %q is not \"lo-hi\" with 1 <= lo <= hi <= 65535", s)
	}
	return [2]int{int(a), int(b)}, nil
}
