// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

const notOurs = "a program that is not hfreduce"

// probeTimeout bounds the look at who holds a port that rank 0 wanted.
const probeTimeout = time.Second

// listenRendezvous opens rank 0's port: the first candidate that is free. Who holds a busy one is found out by a hello:
// if that is another rank 0 of this very job, both must know, because the ranks would meet at one or the other.
func (j *joining) listenRendezvous(ctx context.Context) (*hello.Listener, error) {
	var busy []string
	why := syscall.EADDRINUSE
	for _, addr := range j.cfg.Rendezvous {
		l, err := hello.NewListener(j.listenOptions(bindAddress(addr)))
		if err == nil {
			if len(busy) > 0 {
				j.cfg.Logger.Warn("bootstrap: rank 0 listens on a later candidate",
					slog.String("at", l.Addr().String()), slog.String("because", strings.Join(busy, "; ")))
			}
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			errors.As(err, &why)
			busy = append(busy, err.Error())
			continue
		}
		owner, fatal := j.probe(ctx, addr)
		if fatal != nil {
			return nil, fmt.Errorf("bootstrap: rank 0 cannot listen on %s: %w", addr, fatal)
		}
		busy = append(busy, fmt.Sprintf("%s is in use by %s", addr, owner))
	}
	return nil, fmt.Errorf("bootstrap: rank 0 cannot listen: %s; choose another port, in HFREDUCE_RENDEZVOUS on all ranks: %w",
		strings.Join(busy, "; "), why)
}

// bindAddress is what rank 0 binds for a candidate: all addresses, because what the others call this host need not be
// an address it knows of, but for loopback.
func bindAddress(candidate string) string {
	if isLoopback(candidate) {
		return candidate
	}
	_, port, err := net.SplitHostPort(candidate)
	if err != nil {
		return candidate
	}
	return ":" + port
}

// isLoopback reports whether a candidate can be reached from its own host only.
func isLoopback(candidate string) bool {
	host, _, err := net.SplitHostPort(candidate)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// allLoopback reports whether the ranks can only meet on one host.
func allLoopback(candidates []string) bool {
	if len(candidates) == 0 {
		return false // not known yet
	}
	for _, c := range candidates {
		if !isLoopback(c) {
			return false
		}
	}
	return true
}

// listenHost is what the ranks but 0 bind: loopback where nobody comes from elsewhere, the one address that Interfaces
// allows, or all.
func listenHost(cfg *Config) (string, error) {
	filters, err := parseFilters(cfg.Interfaces)
	switch {
	case err != nil:
		return "", fmt.Errorf("bootstrap: %w", err)
	case cfg.WorldSize == 1:
		return "127.0.0.1", nil // nobody will come
	case len(filters) == 0 && allLoopback(cfg.Rendezvous):
		host, _, err := net.SplitHostPort(cfg.Rendezvous[0])
		return host, err
	case len(filters) == 0:
		return "", nil
	}
	all, err := interfaces()
	if err != nil {
		return "", err
	}
	addrs, err := candidates(all, filters, netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	if err != nil {
		return "", err
	}
	if len(addrs) == 1 {
		return addrs[0].Addr().String(), nil
	}
	return "", nil
}

// reachable reports whether other hosts reach a port of the job. What meets on loopback may still listen elsewhere, for the sake
// of Interfaces.
func reachable(cfg *Config) bool {
	host, err := listenHost(cfg)
	return !allLoopback(cfg.Rendezvous) || err == nil && !isLoopback(net.JoinHostPort(host, "0"))
}

// probe finds out who holds the port of candidate on this host. fatal is set if it is another rank 0 of this job.
func (j *joining) probe(ctx context.Context, candidate string) (owner string, fatal error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	j.me = j.self()
	_, port, _ := net.SplitHostPort(candidate)
	for _, addr := range []string{candidate, "127.0.0.1:" + port, "[::1]:" + port} {
		conn, _, err := hello.Dial(ctx, addr, j.identity(), hello.Hello{Purpose: hello.Control, PeerRank: 0, Token: j.me.encode()})
		switch {
		case err == nil:
			j.connect(conn)
			_, again, err := j.await(ctx)
			j.wire.kill()
			if !again {
				return "", err
			}
			return "another rank 0 of this job that is going away", nil
		case errors.Is(err, hello.ErrRefused), errors.Is(err, hello.ErrNotReady):
			return "", fmt.Errorf("another rank 0 of this job listens there: %w", err)
		case errors.Is(err, hello.ErrJob):
			return "another hfreduce job", nil
		case errors.Is(err, hello.ErrSecret):
			return "an hfreduce job of the same id but another secret", nil
		case errors.Is(err, hello.ErrRank):
			return "another rank of this job", nil
		case errors.Is(err, hello.ErrTLS):
			return "an hfreduce job, one of the two uses TLS", nil
		case errors.Is(err, hello.ErrCertificate):
			return "a port with TLS and certificates of another authority", nil
		case errors.Is(err, hello.ErrVersion):
			return "a job of another hfreduce version", nil
		case errors.Is(err, hello.ErrStranger):
			return notOurs, nil
		}
	}
	return notOurs, nil // it answers nobody, or listens on an address that is not known here
}
