// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLibraryThatIsMissing runs in processes that TestBuildWithOtherLibrary starts, and where CUDA is missing anyway.
func TestLibraryThatIsMissing(t *testing.T) {
	want := os.Getenv(envMissing)
	if want == "" {
		if _, err := library(); err == nil {
			return
		}
		want = built
	}
	if got := Library(); !strings.Contains(got, want) {
		t.Errorf("missing is %q, want %q", got, want)
	}
	_, countErr := DeviceCount()
	_, openErr := Open(0)
	_, pointerErr := PointerAttributes(0)
	_, _, rangeErr := AddressRange(0)
	for _, err := range []error{Available(), countErr, openErr, pointerErr, rangeErr} {
		if !errors.Is(err, ErrNotSupported) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want ErrNotSupported because of %q", err, want)
		}
	}
	if os.Getenv(envMissing) != "" && InProcess() {
		t.Error("a library that could not be used is still in the process")
	}
}

// TestLibraryOfOthers runs in a process that begins with a runtime which this package did not load.
func TestLibraryOfOthers(t *testing.T) {
	name := os.Getenv(envOthers)
	if name == "" {
		return // this is not that process
	}
	if !InProcess() || inProcess.Load() {
		t.Errorf("InProcess is %t before anything was loaded", InProcess())
	}
	if line := Library(); line != name+" (0.0), driver 0.0, 0 devices" || !inProcess.Load() {
		t.Errorf("the line is %q", line)
	}
	if err := Available(); !errors.Is(err, ErrNotSupported) || err.Error() != "cuda: not supported: no device" {
		t.Errorf("error %v", err)
	}
}

// TestLibraryThatComesLater runs in a process without a runtime, into which somebody else loads one after this package has
// looked for it.
func TestLibraryThatComesLater(t *testing.T) {
	path := os.Getenv(envLater)
	if path == "" {
		return // this is not that process
	}
	if err := Available(); !errors.Is(err, ErrNotSupported) || InProcess() {
		t.Errorf("in the process: %t, %v", InProcess(), err)
	}
	if library, why := rawOpen(path, false); library == 0 {
		t.Fatal(why)
	}
	if err := Available(); !InProcess() || err == nil || err.Error() != "cuda: not supported: no device" {
		t.Errorf("in the process: %t, %v", InProcess(), err)
	}
}

// machine is an opener of a machine with some libraries.
type machine struct {
	inProcess, installed, mapped []string
	broken, env                  string
	tried                        []string
	serves                       int
}

func (m *machine) opener() opener {
	return opener{
		open: func(name string, loaded bool) (uintptr, string) {
			if loaded {
				return uintptr(1 + slices.Index(m.inProcess, name)), ""
			}
			m.tried = append(m.tried, name)
			if name == m.broken {
				return 0, name + ": invalid ELF header"
			}
			return uintptr(1 + slices.Index(m.installed, name)), name + ": cannot open shared object file: No such file or directory"
		},
		getenv: func(string) string { return m.env },
		glob: func(string) ([]string, error) {
			return []string{"/usr/local/cuda-11.8/lib64", "/usr/local/cuda-12.10/lib64", "/usr/local/cuda-12.9/lib64"}, nil
		},
		mapped: func() []string { return m.mapped },
		serves: m.serves,
	}
}

func TestLibrarySearch(t *testing.T) {
	const other, wheel = "/usr/local/cuda-12.9/lib64/libcudart.so.12", "/venv/torch/lib/libcudart-d0da41ae.so.11.0"
	for _, c := range []struct {
		what      string
		on        machine
		name, why string
		tried     int // at least
	}{
		{"in the process", machine{inProcess: []string{"libcudart.so.12"}, installed: []string{"libcudart.so.13"}, env: "/x.so"}, "libcudart.so.12", "", 0},
		{"in the process by another name", machine{inProcess: []string{wheel}, mapped: []string{"/bin/x", wheel}, installed: []string{"libcudart.so.13"}}, wheel, "", 0},
		{"a file that is no library", machine{mapped: []string{"/x/libcudart_stub.so", wheel}, installed: []string{"libcudart.so.13"}}, "libcudart.so.13", "", 1},
		{"by its path", machine{installed: []string{"libcudart.so.13", "/x.so"}, env: "/x.so"}, "/x.so", "", 1},
		{"by a wrong path", machine{installed: []string{"libcudart.so.13"}, env: "/x.so"}, "", "HFREDUCE_CUDART: /x.so: cannot open shared object file", 1},
		{"the newest", machine{installed: []string{"libcudart.so.12", "libcudart.so.13", other}}, "libcudart.so.13", "", 1},
		{"the newest for the driver", machine{serves: 12, installed: []string{"libcudart.so.13", "/usr/local/cuda/lib64/libcudart.so.13", other}}, other, "", 4},
		{"one that is too new for the driver", machine{serves: 12, installed: []string{"libcudart.so.13"}}, "libcudart.so.13", "", 27 - 8},
		{"in a folder", machine{installed: []string{other}}, other, "", 4},
		{"none", machine{}, "", "no CUDA runtime: neither libcudart.so.13 nor libcudart.so.12 nor libcudart.so.11.0 is installed (HFREDUCE_CUDART names one by its path)", 27},
		{"a broken one", machine{broken: "libcudart.so.12"}, "", "no CUDA runtime: libcudart.so.12: invalid ELF header", 27},
		{"a broken one and another", machine{broken: "libcudart.so.13", installed: []string{"libcudart.so.12"}}, "libcudart.so.12", "", 2},
	} {
		library, name, why := c.on.opener().runtime()
		if name != c.name || (library != 0) != (c.name != "") || !strings.HasPrefix(why, c.why) || (why == "") != (c.why == "") || len(c.on.tried) < c.tried {
			t.Errorf("%s: found %q, %q, want %q, %q; tried %q", c.what, name, why, c.name, c.why, c.on.tried)
		}
	}
}

func TestLibraryCandidates(t *testing.T) {
	m := machine{}
	got := m.opener().candidates()
	at := func(name string) int {
		i := slices.Index(got, name)
		if i < 0 {
			t.Errorf("%s is not tried", name)
		}
		return i
	}
	order := []int{at("libcudart.so.13"), at("libcudart.so.11.0"), at("/usr/local/cuda/lib64/libcudart.so.13"), at("/usr/local/cuda-12.10/lib64/libcudart.so.12"),
		at("/usr/local/cuda-12.9/lib64/libcudart.so.12"), at("/usr/local/cuda-11.8/lib64/libcudart.so.11.0"), at("/opt/cuda/lib64/libcudart.so.12"),
		at("/usr/lib/x86_64-linux-gnu/libcudart.so.12"), at("/usr/local/lib/libcudart.so.12")}
	if !slices.IsSorted(order) {
		t.Errorf("the order is %q", got)
	}
}
