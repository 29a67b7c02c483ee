// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// meetBadly calls Init for each of the options, all at once, and returns the errors.
func meetBadly(t *testing.T, all ...Options) []error {
	errs := make([]error, len(all))
	rendezvous := freePort(t, "127.0.0.1")
	var wg sync.WaitGroup
	for i, o := range all {
		if o.Rendezvous == "" {
			o.Rendezvous = rendezvous
		}
		if o.InitTimeout == 0 {
			o.InitTimeout = time.Minute
		}
		wg.Go(func() {
			c, err := Init(context.Background(), o)
			if errs[i] = err; err == nil {
				c.Abort(errors.New("the test expected no Comm"))
				_ = c.Close(context.Background())
			}
		})
	}
	wg.Wait()
	return errs
}

func TestMeetingsThatFail(t *testing.T) {
	tests := []struct {
		name     string
		ranks    []Options
		sentinel error
		want     string // part of every message
	}{
		{"rank 2 is missing", []Options{{Rank: 0, WorldSize: 3, InitTimeout: time.Second}, {Rank: 1, WorldSize: 3, InitTimeout: time.Second}}, ErrTimeout, "2"},
		{"nobody listens", []Options{{Rank: 1, WorldSize: 2, InitTimeout: 300 * time.Millisecond}}, ErrTimeout, "127.0.0.1:"},
		{"one rank twice", []Options{{Rank: 0, WorldSize: 3}, {Rank: 1, WorldSize: 3}, {Rank: 1, WorldSize: 3}}, ErrMismatch, "rank 1"},
		{"world sizes", []Options{{Rank: 0, WorldSize: 2}, {Rank: 1, WorldSize: 3}}, ErrMismatch, "3"},
		{"chunk sizes", []Options{{Rank: 0, WorldSize: 2, ChunkBytes: 4096}, {Rank: 1, WorldSize: 2, ChunkBytes: 8192}}, ErrMismatch, "rank 1 has ChunkBytes 8192"},
		{"an interface that is not there", []Options{{Rank: 1, WorldSize: 2, Interfaces: []string{"nosuch0"}}}, nil, "nosuch0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			for r, err := range meetBadly(t, tt.ranks...) {
				var op *OpError
				if !errors.As(err, &op) || op.Op != "Init" || tt.sentinel != nil && !errors.Is(err, tt.sentinel) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("rank %d: %v, want %v with %q", r, err, tt.sentinel, tt.want)
				}
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestIntegrityIsAgreed: checksums and compared results are on for all ranks or for none.
func TestIntegrityIsAgreed(t *testing.T) {
	t.Setenv("HFREDUCE_CHECKSUM", "")
	t.Setenv("HFREDUCE_VERIFY_RESULTS", "")
	for want, odd := range map[string]Options{"Checksum true": {Checksum: true}, "VerifyResults true": {VerifyResults: true}} {
		odd.Rank, odd.WorldSize = 1, 2
		for r, err := range meetBadly(t, Options{Rank: 0, WorldSize: 2}, odd) {
			if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), want) {
				t.Errorf("rank %d: %v, want ErrMismatch with %q", r, err, want)
			}
		}
	}
}
