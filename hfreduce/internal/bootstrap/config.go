// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/hfreduce/internal/pulse"
)

// DefaultTimeout is how long Join waits for all ranks when Config.Timeout is zero.
const DefaultTimeout = 5 * time.Minute

// maxWorldSize bounds tables and lists; far above any job, and low enough that their sizes cannot overflow.
const maxWorldSize = 1 << 20

// Errors, to be tested with errors.Is; each comes wrapped with names and details.
var (
	// ErrTimeout: the ranks did not meet before the deadline (Join).
	ErrTimeout = errors.New("timed out")
	// ErrPeerLost: a rank's connection ended without a goodbye (Exchange).
	ErrPeerLost = errors.New("peer lost")
	// ErrMismatch: ranks disagree: one rank twice or different world sizes (Join), different members or a key used
	// twice (Exchange).
	ErrMismatch = errors.New("ranks disagree")
	// ErrClosed: the Session was closed by this rank, or a member of the exchange has said goodbye.
	ErrClosed = errors.New("closed")
	// ErrInvalid: the Config has a value that can never be right (Join).
	ErrInvalid = errors.New("invalid")
	// ErrNoLauncher: the environment names no rank (Detect).
	ErrNoLauncher = errors.New("bootstrap: no launcher found")
)

// Config says who this rank is and where the ranks meet. Rank, WorldSize and Rendezvous are required.
type Config struct {
	Rank, WorldSize int
	// Rendezvous are candidate addresses "host:port" of rank 0, the same list on all ranks. Rank 0 listens on the port
	// of the first that is free (on all addresses of its host, or on loopback only if the candidate's host is); the
	// others try them in turn. If all are loopback, so is what the others listen on, unless Interfaces says otherwise. May be empty when WorldSize is 1.
	Rendezvous []string
	// Meet tells ranks where to meet if Rendezvous is empty: rank 0 listens anywhere, and the others learn where.
	Meet   Meet
	JobID  string     // any text, the same on all ranks; keeps jobs apart
	Secret []byte     // the same on all ranks; empty: no authentication
	TLS    *hello.TLS // on all ranks or on none
	Node   string     // replaces the identity of the host: ranks with equal Node share a node; at most 255 bytes
	// Interfaces restricts which addresses are offered to peers: interface names, also patterns such as "eth*", or
	// prefixes such as "10.1.0.0/16". Empty: all that are up. If they have one address only, the ranks but 0 listen on
	// nothing else.
	Interfaces []string
	PortRange  [2]int        // lowest and highest port to listen on, but for rank 0's rendezvous; zero: the system chooses
	Timeout    time.Duration // for Join; 0: DefaultTimeout, negative: none
	Heartbeat  time.Duration // how long a host may be unreachable before its ranks are lost; 0: pulse.Usual
	Logger     *slog.Logger  // nil: silent
	// Judge decides a Case; what it returns is the verdict's text. It is called on the rank that is the hub and must neither
	// block nor depend on anything but the case. nil: the first report is the verdict.
	Judge func(Case) string

	pace pace // tests hurry
}

// Meet carries a text from rank 0 to the others, on which all ranks call it in Join, and returns it. The text is short and has no
// blanks; it may come back without its last parts, which have commas between.
type Meet func(ctx context.Context, text string) (string, error)

// pace holds the intervals of waiting and retrying.
type pace struct {
	firstLine, nextLine time.Duration // until the first "waiting for" line, and between the later ones
	refresh             time.Duration // between updates of the list of the missing that ranks hold for their own deadline
	attempt             time.Duration // for one connection attempt
	hopeless            time.Duration // until an answer that another candidate may still better is taken for final
	backoff             time.Duration // longest pause between rounds of attempts
	succession          time.Duration // for all ranks to come over to a new hub; they may learn of the old one's loss at different times
}

var usualPace = pace{
	firstLine: 2 * time.Second, nextLine: 10 * time.Second, refresh: time.Second,
	attempt: 5 * time.Second, hopeless: 10 * time.Second, backoff: time.Second, succession: 10 * time.Second,
}

// identity is what this rank proves itself with, on every connection.
func (c *Config) identity() hello.Identity {
	return hello.Identity{JobID: c.JobID, Secret: c.Secret, Rank: c.Rank, TLS: c.TLS}
}

// complete fills the defaults and returns every fault in one error.
func (c *Config) complete() error {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = pulse.Usual
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Judge == nil {
		c.Judge = func(k Case) string { return k.Report }
	}
	if c.pace == (pace{}) {
		c.pace = usualPace
	}
	var errs []error
	if c.WorldSize < 1 || c.WorldSize > maxWorldSize {
		errs = append(errs, fmt.Errorf("world size %d is not within 1..%d", c.WorldSize, maxWorldSize))
	} else if c.Rank < 0 || c.Rank >= c.WorldSize {
		errs = append(errs, fmt.Errorf("rank %d is not within 0..%d (world size %d)", c.Rank, c.WorldSize-1, c.WorldSize))
	}
	if len(c.Rendezvous) == 0 && c.Meet == nil && c.WorldSize > 1 {
		errs = append(errs, errors.New("no rendezvous address; set HFREDUCE_RENDEZVOUS to host:port of rank 0"))
	}
	rendezvous := make([]string, len(c.Rendezvous))
	for i, r := range c.Rendezvous {
		var err error
		if rendezvous[i], err = parseAddress(r); err != nil {
			errs = append(errs, fmt.Errorf("rendezvous %q: %w", r, err))
		}
	}
	c.Rendezvous = rendezvous
	if len(c.Node) > maxName {
		errs = append(errs, fmt.Errorf("the node name has %d bytes, at most %d are allowed", len(c.Node), maxName))
	}
	if _, err := parseFilters(c.Interfaces); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bootstrap: %w: %w", ErrInvalid, err)
	}
	return nil
}

// parseAddress reads "host:port" or "tcp://host:port" and returns the former.
func parseAddress(s string) (string, error) {
	s = strings.TrimPrefix(s, "tcp://")
	if scheme, _, found := strings.Cut(s, "://"); found {
		return "", fmt.Errorf("unknown scheme %q; want host:port or tcp://host:port", scheme)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("want host:port or tcp://host:port (IPv6 as [address]:port): %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not within 1..65535", port)
	}
	if host == "" {
		return "", errors.New("the host is missing")
	}
	return net.JoinHostPort(host, port), nil
}
