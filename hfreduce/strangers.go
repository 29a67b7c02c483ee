// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"log/slog"
	"sync"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hostmem"
)

// RefusedStats count the connections to this rank that were refused for one reason.
type RefusedStats struct {
	// Kind is the reason, one of a fixed list. On the rank's TCP port: "http", "tls" (on a port without TLS), "ssh", "silent",
	// "slow" (a hello that did not end in time), "probe" (closed without a word), "truncated", "bytes", "malformed", "version",
	// "clear" (no TLS on a port with TLS), "certificate", "job", "secret", "rank", "refused" (by what the port is for),
	// "not_ready", "nonsense" (after a hello; it counts as accepted, too), "crowded" (silent, closed to make room), "closing". On the node's unix socket: "segment_user",
	// "segment_silent", "segment_bytes", "segment_member".
	Kind  string
	Count uint64
}

// outsiders counts who was turned away from the node's sockets, of all communicators.
type outsiders struct {
	mu     sync.Mutex
	counts map[hostmem.Kind]uint64
}

// stranger counts one, and logs the first of each kind.
func (f *processFabric) stranger(k hostmem.Kind, why error) {
	o := &f.outsiders
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[hostmem.Kind]uint64{}
	}
	if o.counts[k]++; o.counts[k] == 1 {
		f.log.Warn("a stranger at the node's socket", "kind", string(k), slog.Any("detail", why))
	}
}

func (f *processFabric) strangers() (accepted uint64, refused []RefusedStats) {
	s := f.session.Listener().Stats()
	for _, r := range s.Refused {
		refused = append(refused, RefusedStats{string(r.Kind), r.Count})
	}
	f.outsiders.mu.Lock()
	defer f.outsiders.mu.Unlock()
	for _, k := range hostmem.Kinds() {
		refused = append(refused, RefusedStats{string(k), f.outsiders.counts[k]})
	}
	return s.Accepted, refused
}
