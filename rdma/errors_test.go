// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  Error
		want string
	}{
		{Error{"ibv_reg_mr", "of 64 MiB on mlx5_0", syscall.ENOMEM, "RLIMIT_MEMLOCK is 8 MiB"},
			"rdma: ibv_reg_mr of 64 MiB on mlx5_0: cannot allocate memory (RLIMIT_MEMLOCK is 8 MiB)"},
		{Error{Verb: "ibv_get_device_list", Errno: syscall.EPERM}, "rdma: ibv_get_device_list: operation not permitted"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	unknown := fmt.Errorf("start: %w", failed(syscall.EOPNOTSUPP, "ibv_reg_dmabuf_mr", ""))
	full := failed(syscall.ENOMEM, "ibv_reg_mr", "")
	lacks := fmt.Errorf("start: %w", notSupported{"built without cgo"})
	for _, c := range []struct {
		err, target error
		want        bool
	}{
		{unknown, syscall.EOPNOTSUPP, true}, {unknown, ErrNotSupported, true}, {unknown, errors.ErrUnsupported, true}, {unknown, ErrClosed, false},
		{full, syscall.ENOMEM, true}, {full, ErrNotSupported, false}, {full, errors.ErrUnsupported, false},
		{lacks, ErrNotSupported, true}, {lacks, errors.ErrUnsupported, true}, {lacks, ErrInvalid, false},
		{ErrNotSupported, errors.ErrUnsupported, true}, {ErrNotSupported, ErrNotSupported, true}, {ErrClosed, ErrNotSupported, false},
		{invalidf("port %d", 0), ErrInvalid, true},
	} {
		if got := errors.Is(c.err, c.target); got != c.want {
			t.Errorf("errors.Is(%q, %q) is %t", c.err, c.target, got)
		}
	}
	if failed(0, "ibv_reg_mr", "") != nil {
		t.Error("errno 0 is an error")
	}
}

// TestErrorExplainsPinning: an error for lack of memory names the limit, whichever is in force here.
func TestErrorExplainsPinning(t *testing.T) {
	err := explainPinning(failed(syscall.ENOMEM, "ibv_reg_mr", "of 64 MiB on mlx5_0"))
	if !strings.Contains(err.Error(), "cannot allocate memory (RLIMIT_MEMLOCK ") {
		t.Errorf("%q does not name the limit", err)
	}
	if err := explainPinning(failed(syscall.EFAULT, "ibv_reg_mr", "of 1 B")); strings.Contains(err.Error(), "RLIMIT") {
		t.Errorf("%q names a limit that did not matter", err)
	}
	if explainPinning(nil) != nil {
		t.Error("no error became one")
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1: "1 B", 1000: "1000 B", 1 << 10: "1 KiB", 3 << 19: "1536 KiB", 64 << 20: "64 MiB", 1 << 53: "8192 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		StatusSuccess.String():                          "success (IBV_WC_SUCCESS)",
		StatusFlushed.String():                          "work request flushed (IBV_WC_WR_FLUSH_ERR)",
		StatusRemoteAccess.String():                     "remote access error (IBV_WC_REM_ACCESS_ERR)",
		WCStatus(12).String():                           "transport retry counter exceeded (IBV_WC_RETRY_EXC_ERR)",
		WCStatus(13).String():                           "receiver-not-ready retry counter exceeded (IBV_WC_RNR_RETRY_EXC_ERR)",
		StatusGeneral.String():                          "general error (IBV_WC_GENERAL_ERR)",
		WCStatus(23).String():                           "tag matching rendezvous incomplete (IBV_WC_TM_RNDV_INCOMPLETE)",
		WCStatus(24).String():                           "unknown status 24",
		State(6).String():                               "ERR",
		StateRTS.String():                               "RTS",
		PortActive.String():                             "active",
		PortState(9).String():                           "rdma.PortState(9)",
		Ethernet.String():                               "Ethernet",
		GIDRoCEv2.String():                              "RoCEv2",
		WriteImm.String():                               "write with immediate",
		EventGIDChange.String():                         "GID table changed",
		Event{Kind: EventPortError, Port: 1}.String():   "port error on port 1",
		Event{Kind: EventQPFatal, QP: 0x11}.String():    "QP fatal error on QP 0x11",
		Event{Kind: EventDeviceFatal}.String():          "device fatal error",
		Event{Kind: EventWQFatal + 1, Port: 0}.String(): "rdma.EventKind(20)",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMTU(t *testing.T) {
	for e, bytes := range map[uint32]int{1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096} {
		if mtuBytes(e) != bytes || mtuEnum(bytes) != e {
			t.Errorf("MTU %d is %d bytes, and %d bytes are MTU %d", e, mtuBytes(e), bytes, mtuEnum(bytes))
		}
	}
	if mtuBytes(0) != 0 || mtuBytes(6) != 0 || mtuEnum(1500) != 0 || mtuEnum(0) != 0 {
		t.Error("there is an MTU that should not be")
	}
}

func TestPathCheck(t *testing.T) {
	good := Path{Port: 1, MTU: 1024, GIDIndex: -1, RemoteQP: 1<<24 - 1, Timeout: 31, Retry: 7, RNRRetry: 7, MinRNRTimer: 31, SL: 15}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Path){
		"port 0": func(p *Path) { p.Port = 0 }, "RemoteQP": func(p *Path) { p.RemoteQP++ }, "RemotePSN": func(p *Path) { p.RemotePSN = 1 << 24 },
		"LocalPSN": func(p *Path) { p.LocalPSN = 1 << 31 }, "SL": func(p *Path) { p.SL++ }, "Timeout": func(p *Path) { p.Timeout++ },
		"Retry": func(p *Path) { p.Retry++ }, "RNRRetry": func(p *Path) { p.RNRRetry++ }, "MinRNRTimer": func(p *Path) { p.MinRNRTimer++ },
		"GIDIndex": func(p *Path) { p.GIDIndex = -2 }, "MTU": func(p *Path) { p.MTU = 1500 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.check(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}
