// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
)

// The defaults of Options.
const (
	DefaultChunkBytes  = 256 << 10
	DefaultSlots       = 8
	DefaultInitTimeout = 5 * time.Minute
	DefaultTimeout     = 10 * time.Minute
)

// Bounds of ChunkBytes and Slots.
const (
	minChunkBytes = 4 << 10
	maxChunkBytes = 1 << 30
	maxSlots      = 256
)

// Options configure Init and NewLocal. The zero value takes everything from the launcher's environment and the
// defaults; a field that is set wins over its environment variable, HFREDUCE_ and the field's name in capitals
// (ChunkBytes: HFREDUCE_CHUNK_BYTES). All ranks must agree on JobID, Secret, Transport, ChunkBytes and Slots.
type Options struct {
	// Rank and WorldSize: this rank's number and the number of ranks. WorldSize 0: both from the launcher.
	Rank, WorldSize int
	// Rendezvous is "host:port" (or "tcp://host:port") of rank 0, which listens there.
	Rendezvous string
	// JobID keeps jobs apart that meet at one address. Any text.
	JobID string
	// Secret, when set, authenticates every connection by HMAC-SHA256, in both directions. HFREDUCE_SECRET_FILE names a
	// file that holds it.
	Secret []byte
	// Node overrides the identity of the host: ranks with equal Node share a node, ranks with different Node talk over
	// the network, also on one machine.
	Node string
	// Interfaces restricts the network interfaces that are offered to peers, by name ("eth0") or prefix
	// ("10.1.0.0/16"). Empty: all that can reach the peer.
	Interfaces []string
	// PortRange, "lo-hi", bounds the port that this rank listens on. Empty: the system chooses.
	PortRange string
	// Transport carries data between nodes: "tcp". Empty: the best there is.
	Transport string
	// ChunkBytes is the unit of the pipeline, a multiple of 4096; 0: DefaultChunkBytes.
	ChunkBytes int
	// Slots is how many chunks are in flight, which bounds the staging memory: a node with L ranks uses about
	// Slots*ChunkBytes*(L+3) bytes. 0: DefaultSlots.
	Slots int
	// InitTimeout bounds the meeting of the ranks in Init and Split. 0: DefaultInitTimeout; negative: none.
	InitTimeout time.Duration
	// Timeout breaks the Comm when a collective has made no progress for so long. 0: DefaultTimeout; negative: none.
	Timeout time.Duration
	// Logger gets what happens during Init and when something breaks. nil: warnings and worse go to stderr, or what
	// HFREDUCE_LOG (debug, info, warn, error) says.
	Logger *slog.Logger
}

// String returns the options as they are used, without the secret.
func (o Options) String() string {
	return fmt.Sprintf("rank=%d world_size=%d rendezvous=%s job_id=%q secret=%t node=%q interfaces=%s port_range=%q transport=%s chunk_bytes=%d slots=%d init_timeout=%v timeout=%v",
		o.Rank, o.WorldSize, o.Rendezvous, o.JobID, len(o.Secret) > 0, o.Node, strings.Join(o.Interfaces, ","), o.PortRange, o.Transport, o.ChunkBytes, o.Slots, o.InitTimeout, o.Timeout)
}

// fromEnvironment fills the fields that are not set from HFREDUCE_ variables. Rank, WorldSize, Rendezvous, JobID and
// Node are the launcher table's (package bootstrap).
func (o *Options) fromEnvironment(getenv func(string) string) error {
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
	duration := func(field *time.Duration, name string) {
		if v := getenv(name); *field == 0 && v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s=%q is not a duration such as 30s or 5m", name, v))
			}
			*field = d
		}
	}
	text := func(field *string, name string) {
		if *field == "" {
			*field = getenv(name)
		}
	}
	number(&o.ChunkBytes, "HFREDUCE_CHUNK_BYTES")
	number(&o.Slots, "HFREDUCE_SLOTS")
	duration(&o.InitTimeout, "HFREDUCE_INIT_TIMEOUT")
	duration(&o.Timeout, "HFREDUCE_TIMEOUT")
	text(&o.Transport, "HFREDUCE_TRANSPORT")
	text(&o.PortRange, "HFREDUCE_PORT_RANGE")
	text(&o.Node, "HFREDUCE_NODE")
	text(&o.JobID, "HFREDUCE_JOB_ID")
	if v := getenv("HFREDUCE_INTERFACES"); len(o.Interfaces) == 0 && v != "" {
		o.Interfaces = strings.Split(v, ",")
	}
	if len(o.Secret) == 0 {
		if err := o.secretFromEnvironment(getenv); err != nil {
			errs = append(errs, err)
		}
	}
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

func (o *Options) secretFromEnvironment(getenv func(string) string) error {
	o.Secret = []byte(getenv("HFREDUCE_SECRET"))
	file := getenv("HFREDUCE_SECRET_FILE")
	if len(o.Secret) > 0 || file == "" {
		return nil
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("HFREDUCE_SECRET_FILE: %w", err)
	}
	if o.Secret = []byte(strings.TrimSpace(string(secret))); len(o.Secret) == 0 {
		return fmt.Errorf("HFREDUCE_SECRET_FILE=%s is empty", file)
	}
	return nil
}

// defaults fills what is still open.
func (o *Options) defaults() {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = DefaultChunkBytes
	}
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.InitTimeout == 0 {
		o.InitTimeout = DefaultInitTimeout
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Transport == "" {
		o.Transport = "tcp"
	}
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
	fault(o.Slots < 1 || o.Slots > maxSlots, "Slots %d is not within 1..%d", o.Slots, maxSlots)
	fault(o.Transport != "tcp", "Transport %q is unknown; this build has: tcp", o.Transport)
	if _, err := parsePortRange(o.PortRange); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return invalidf("options: %w", err)
	}
	return nil
}

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

// meeting is where and as whom this rank meets the others.
func (o *Options) meeting(getenv func(string) string) (rendezvous []string, launcher string, err error) {
	if o.WorldSize == 0 && o.Rank == 0 {
		found, err := bootstrap.Detect(getenv)
		if err != nil {
			return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		o.Rank, o.WorldSize = found.Rank, found.WorldSize
		rendezvous, launcher = found.Rendezvous, found.Launcher
		if o.JobID == "" {
			o.JobID = found.JobID
		}
		if o.Node == "" {
			o.Node = found.Node
		}
	}
	if o.Rendezvous == "" && len(rendezvous) == 0 {
		o.Rendezvous = getenv("HFREDUCE_RENDEZVOUS")
	}
	if o.Rendezvous != "" {
		rendezvous = []string{strings.TrimPrefix(o.Rendezvous, "tcp://")}
	}
	if len(rendezvous) == 0 && o.WorldSize > 1 {
		return nil, "", invalidf("no rendezvous address: set Options.Rendezvous or HFREDUCE_RENDEZVOUS to host:port of rank 0")
	}
	return rendezvous, launcher, nil
}

// loopback reports whether an address is this machine's own.
func loopback(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
