// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/testcert"
)

// filesOf issues a certificate and returns the options that name it.
func filesOf(a *testcert.Authority) *TLSOptions {
	cert, key, ca := a.Files(nil)
	return &TLSOptions{CertFile: cert, KeyFile: key, CAFile: ca}
}

// TestTLSGivesTheSameBits runs jobs over TLS, each rank with a certificate of its own.
func TestTLSGivesTheSameBits(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, layout := range []string{"2x1", "2x2", "strided"} {
			t.Run(layout+"/"+host, func(t *testing.T) {
				nodeOf := layouts[layout]
				files := make([]*TLSOptions, len(nodeOf))
				a := testcert.NewAuthority(t)
				for r := range files {
					files[r] = filesOf(a)
				}
				comms := initRanks(t, nodeOf, host, Options{ChunkBytes: 8192, Slots: 4}, func(rank int, o *Options) { o.TLS = files[rank] })
				checkBits(t, comms, nodeOf)
				for _, l := range comms[0].Stats().Links {
					if l.Transport != TransportTCP {
						t.Errorf("payload went over %s", l.Transport)
					}
				}
			})
		}
	}
}

// TestTLSMeetingsThatFail: each rank's error says what is wrong with TLS, also that of rank 0, which only sees nobody come.
func TestTLSMeetingsThatFail(t *testing.T) {
	a, other := testcert.NewAuthority(t), testcert.NewAuthority(t)
	expired := &TLSOptions{}
	expired.CertFile, expired.KeyFile, expired.CAFile = a.Files(testcert.Expired)
	for _, tt := range []struct {
		name string
		tls  [2]*TLSOptions
		want [2][]string
	}{
		{"rank 1 has none", [2]*TLSOptions{filesOf(a), nil}, [2][]string{
			{"a rank without TLS", "HFREDUCE_TLS_CERT"}, {"the listener does, this process does not", "HFREDUCE_TLS_CERT"}}},
		{"rank 0 has none", [2]*TLSOptions{nil, filesOf(a)}, [2][]string{
			{"a TLS client", "HFREDUCE_TLS_CERT"}, {"this process does, the listener does not", "HFREDUCE_TLS_CERT"}}},
		{"two authorities", [2]*TLSOptions{filesOf(a), filesOf(other)}, [2][]string{
			{"certificate", "HFREDUCE_TLS_CA"}, {"unknown authority", "HFREDUCE_TLS_CA"}}},
		{"expired", [2]*TLSOptions{filesOf(a), expired}, [2][]string{{"rank 1"}, {expired.CertFile, "expired"}}},
		{"no such file", [2]*TLSOptions{filesOf(a), {CertFile: "/nonexistent", KeyFile: "k", CAFile: "c"}}, [2][]string{
			{"rank 1"}, {"no such file"}}},
		{"no key", [2]*TLSOptions{filesOf(a), {CertFile: "c", CAFile: "c"}}, [2][]string{{"rank 1"}, {"TLS.KeyFile (HFREDUCE_TLS_KEY) is missing"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all := make([]Options, 2)
			for r := range all {
				all[r] = Options{Rank: r, WorldSize: 2, TLS: tt.tls[r], InitTimeout: 4 * time.Second}
			}
			for r, err := range meetBadly(t, all...) {
				for _, want := range tt.want[r] {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("rank %d: %v does not say %q", r, err, want)
					}
				}
			}
		})
	}
}

func TestTLSOptions(t *testing.T) {
	env := map[string]string{
		"HFREDUCE_RANK": "0", "HFREDUCE_WORLD_SIZE": "1",
		"HFREDUCE_TLS_CERT": "c.pem", "HFREDUCE_TLS_KEY": "k.pem", "HFREDUCE_TLS_CA": "ca.pem",
	}
	var o Options
	if _, err := o.resolve(func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	if o.TLS == nil || *o.TLS != (TLSOptions{"c.pem", "k.pem", "ca.pem"}) {
		t.Errorf("from the environment: %+v", o.TLS)
	}
	if o.Transport != TransportTCP || !strings.Contains(o.String(), "tls=true") {
		t.Errorf("options with TLS: %v", o)
	}
	verbs := Options{Transport: TransportVerbs}
	if _, err := verbs.resolve(func(name string) string { return env[name] }); err != nil || verbs.Transport != TransportVerbs {
		t.Errorf("the user's own choice: %v, %v", verbs.Transport, err)
	}
	delete(env, "HFREDUCE_TLS_KEY")
	var incomplete Options
	_, err := incomplete.resolve(func(name string) string { return env[name] })
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "HFREDUCE_TLS_KEY") {
		t.Errorf("without a key: %v", err)
	}
}
