// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// FuzzSettings reads whatever environment there may be, a variable a line: what is accepted is good for Join, what is refused
// names a variable and never tells the secret.
func FuzzSettings(f *testing.F) {
	f.Add("HFREDUCE_RANK=1\nHFREDUCE_WORLD_SIZE=2\nHFREDUCE_RENDEZVOUS=node0:4711\nHFREDUCE_NODE=n\nHFREDUCE_SECRET=s")
	f.Add("RANK=0\nLOCAL_RANK=0\nWORLD_SIZE=2\nMASTER_ADDR=fd00::1\nMASTER_PORT=65535\nTORCHELASTIC_RUN_ID=x\nHFREDUCE_JOB_ID=j")
	f.Add("HFREDUCE_INTERFACES=eth*,10.0.0.0/8,[\nHFREDUCE_PORT_RANGE=9-3\nHFREDUCE_INIT_TIMEOUT=0\nHFREDUCE_SECRET=topsecret")
	f.Fuzz(func(t *testing.T, text string) {
		values := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			if name, value, found := strings.Cut(line, "="); found && name != envSecretFile { // no files of this machine
				values[name] = value
			}
		}
		getenv := func(name string) string { return values[name] }
		found, err := Settings(getenv)
		refused(t, err, values[envSecret])
		if cfg := found.Config(); err == nil {
			cfg.Rank, cfg.WorldSize = 0, 1
			if err := cfg.complete(); err != nil {
				t.Errorf("%q was accepted, but Join says %v", values, err)
			}
		}
		if _, err := Detect(getenv); !errors.Is(err, ErrNoLauncher) {
			refused(t, err, values[envSecret])
		}
	})
}

// refused checks the text of an error.
func refused(t *testing.T, err error, secret string) {
	if err == nil {
		return
	}
	if text := err.Error(); !strings.Contains(text, "HFREDUCE_") && !strings.Contains(text, "RANK") && !strings.Contains(text, "WORLD_SIZE") && !strings.Contains(text, "MASTER_") {
		t.Errorf("the error names no variable: %v", err)
	} else if len(secret) > 16 && strings.Contains(text, secret) {
		t.Errorf("the error tells the secret: %v", err)
	}
}

// FuzzParseAddress: what is an address is the same address once it is written out.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"node0:4711", "tcp://[::1]:1", "[fe80::1%eth0]:65535", "http://x:1", ":1", "x:0", "x:65536", "[]:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := parseAddress(s)
		if err != nil {
			if addr != "" || err.Error() == "" {
				t.Errorf("%q: got %q and %q", s, addr, err)
			}
			return
		}
		if again, err := parseAddress(addr); err != nil || again != addr {
			t.Errorf("%q is written %q, which is %q, %v", s, addr, again, err)
		}
	})
}

// FuzzParseFilters: filters of any text select without a fault, and a prefix selects its own first address.
func FuzzParseFilters(f *testing.F) {
	f.Add("eth0,ib*", "ib0", []byte{10, 1, 2, 3})
	f.Add("10.1.0.0/16,fd00::/8", "x", []byte{10, 1, 0, 0})
	f.Add("[a-,/,::ffff:10.0.0.0/104, ,\\", "a", make([]byte, 16))
	f.Fuzz(func(t *testing.T, text, name string, ip []byte) {
		filters, err := parseFilters(strings.Split(text, ","))
		if err != nil {
			if filters != nil || !strings.Contains(err.Error(), "HFREDUCE_INTERFACES") {
				t.Errorf("%q: got %v, %v", text, filters, err)
			}
			return
		}
		addr, _ := netip.AddrFromSlice(ip)
		for _, x := range filters {
			x.matches(name, addr)
			if x.prefix.IsValid() && !x.matches("", x.prefix.Addr()) {
				t.Errorf("%q does not select its own address %v", text, x.prefix)
			}
		}
	})
}
