// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// firstBackoff is the pause after the first round of attempts to reach rank 0.
const firstBackoff = 10 * time.Millisecond

// visit is the way of all ranks but 0: dial the candidates in turn until rank 0 answers, then wait for its decision.
func (j *joining) visit(ctx context.Context) ([]PeerInfo, error) {
	t := tries{pace: j.cfg.pace, causes: make([]error, len(j.cfg.Rendezvous)), candidates: j.cfg.Rendezvous,
		line: time.Now().Add(j.cfg.pace.firstLine)}
	for pause := firstBackoff; ; pause = min(2*pause, j.cfg.pace.backoff) {
		for i, addr := range j.cfg.Rendezvous {
			peers, again, err := j.try(ctx, addr)
			if err == nil {
				return peers, nil
			}
			if ended(ctx) {
				t.note(ctx, i, err)
				return nil, j.unmet(ctx, &t)
			}
			if !again || t.note(ctx, i, err) {
				return nil, err
			}
		}
		if t.due() {
			j.cfg.Logger.Warn("bootstrap: waiting for rank 0", slog.Int("rank", j.cfg.Rank), slog.String("tried", t.String()))
		}
		// Spread out, so that a thousand ranks do not come at once.
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, j.unmet(ctx, &t)
		}
	}
}

// ended reports whether ctx is over. A connection carries the same deadline on a timer of its own, which may fire first;
// what failed then was cut short as well, so a deadline that has passed is waited for.
func ended(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// try makes one attempt at one candidate; again says whether to go on trying.
func (j *joining) try(ctx context.Context, addr string) (peers []PeerInfo, again bool, err error) {
	dialing, cancel := context.WithTimeoutCause(ctx, j.cfg.pace.attempt, errAttempt)
	defer cancel()
	conn, _, err := hello.Dial(dialing, addr, j.identity(), hello.Hello{Purpose: hello.Control, PeerRank: 0, Token: j.me.encode()})
	if err != nil {
		return nil, !errors.Is(err, hello.ErrRefused), fmt.Errorf("bootstrap: rank %d: %w", j.cfg.Rank, err)
	}
	tune(conn, j.cfg.Heartbeat)
	j.connect(conn)
	peers, again, err = j.await(ctx)
	if err != nil {
		j.wire.kill()
	}
	if again && ctx.Err() == nil {
		j.list = "" // what it said is no longer true
		err = fmt.Errorf("bootstrap: rank 0 at %s: its connection ended during the rendezvous: %w", addr, err)
	}
	return peers, again, err
}

var errAttempt = errors.New("no answer")

// unmet is the error when ctx has ended before the ranks have met.
func (j *joining) unmet(ctx context.Context, t *tries) error {
	if j.list != "" {
		return fmt.Errorf("bootstrap: rank %d: the ranks did not meet: rank 0 said it was %s: %w", j.cfg.Rank, j.list, context.Cause(ctx))
	}
	return fmt.Errorf("bootstrap: rank %d: rank 0 is unreachable, tried %s: %w; %s", j.cfg.Rank, t, context.Cause(ctx), t.remedy())
}

// tries remembers what went wrong at each candidate.
type tries struct {
	pace       pace
	candidates []string
	causes     []error
	hopeless   time.Time // since when some candidate answers what will not change
	line       time.Time // when the next log line is due
}

// note keeps a cause; it reports true if further attempts make no sense. A candidate of another version, with another
// secret or without TLS, is most likely our rank 0 and wrongly set up. But the port may also belong to somebody else while
// rank 0 is at, or still on its way to, another candidate: so with several candidates that takes a while to be final.
func (t *tries) note(ctx context.Context, i int, err error) (final bool) {
	if ctx.Err() == nil || t.causes[i] == nil { // an attempt cut short says less than the one before
		t.causes[i] = err
	}
	if !slices.ContainsFunc(wrongSetup(), func(e error) bool { return errors.Is(err, e) }) {
		return false
	}
	if t.hopeless.IsZero() {
		t.hopeless = time.Now()
	}
	return len(t.candidates) == 1 || time.Since(t.hopeless) > t.pace.hopeless
}

// wrongSetup are the answers of a rank 0 that was started with other settings.
func wrongSetup() []error {
	return []error{hello.ErrVersion, hello.ErrSecret, hello.ErrTLS, hello.ErrCertificate}
}

// due reports whether a log line is due.
func (t *tries) due() bool {
	if time.Now().Before(t.line) {
		return false
	}
	t.line = time.Now().Add(t.pace.nextLine)
	return true
}

// String lists the candidates that were tried and why they failed, neighbours that failed alike together.
func (t *tries) String() string {
	var b strings.Builder
	last := ""
	for i, cause := range t.causes {
		if cause == nil {
			continue
		}
		why := rootCause(cause)
		switch {
		case b.Len() == 0:
		case why == last:
			b.WriteString(", ")
		default:
			b.WriteString(": " + last + "; ")
		}
		b.WriteString(t.candidates[i])
		last = why
	}
	if b.Len() > 0 {
		b.WriteString(": " + last)
	}
	return b.String()
}

// remedy says what to do where all candidates failed for one reason that tells, else what to look at.
func (t *tries) remedy() string {
	all := func(is func(error) bool) bool {
		return len(t.causes) > 0 && !slices.ContainsFunc(t.causes, func(err error) bool { return !is(err) })
	}
	switch {
	case all(func(err error) bool { var dns *net.DNSError; return errors.As(err, &dns) }):
		return "this host cannot resolve the name: set " + envRendezvous + " to rank 0's address and a port on all ranks, or tell the resolver"
	case all(func(err error) bool { return errors.Is(err, hello.ErrJob) }):
		return "start all ranks with one " + envJobID + ", or choose another port on all of them"
	case all(func(err error) bool { return errors.Is(err, hello.ErrStranger) }):
		return "choose another port on all ranks"
	}
	return "is rank 0 running, is the address its own, does a firewall block the port?"
}

// rootCause words an error of an attempt without what the reader knows already.
func rootCause(err error) string {
	for _, known := range []error{hello.ErrStranger, hello.ErrJob, hello.ErrVersion, hello.ErrSecret, hello.ErrTLS, hello.ErrCertificate,
		hello.ErrRank, hello.ErrNotReady, errAttempt} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Error()
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
