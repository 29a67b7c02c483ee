// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// The variables that name the libraries by their paths.
const (
	envRuntime = "HFREDUCE_CUDART"
	envDriver  = "HFREDUCE_LIBCUDA"
)

// driverName is the driver's library, which comes with the driver and not with CUDA.
const driverName = "libcuda.so.1"

// runtimeNames are the runtimes that this package knows, the newest first.
func runtimeNames() []string {
	return []string{"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"}
}

// features are what the driver's optional functions allow.
type features int

// The values are those of seam.h.
const (
	memoryOperations features = 1 << iota
	batches
	addressRanges
)

// loaded is what this package found.
type loaded struct {
	runtime         string // the library's file name
	version, driver int    // of the runtime and the driver, e.g. 12040
	has             features
}

// search is what library has found.
var search struct {
	sync.Mutex
	done   bool
	loaded loaded
	err    error
}

// library loads CUDA once, or says what is missing. It looks again when somebody else has loaded a runtime since.
func library() (loaded, error) {
	search.Lock()
	defer search.Unlock()
	if !search.done || search.err != nil && present() {
		search.done = true
		search.loaded, search.err = find(newOpener())
		inProcess.Store(search.err == nil)
	}
	return search.loaded, search.err
}

// inProcess says that library had success.
var inProcess atomic.Bool

// opener is what the search for the libraries depends on.
type opener struct {
	open   func(name string, loaded bool) (library uintptr, why string)
	getenv func(string) string
	glob   func(string) ([]string, error)
	mapped func() []string // the paths of files that are in this process
	serves int             // the newest major version of CUDA that the driver serves, 0 if that is not known
}

func newOpener() opener {
	return opener{open: rawOpen, getenv: os.Getenv, glob: filepath.Glob, mapped: mappedFiles}
}

// mappedFiles reads them from the kernel's list, of which a line is "ADDRESSES PERMISSIONS OFFSET DEVICE INODE PATH".
func mappedFiles() (paths []string) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if at := strings.IndexByte(line, '/'); at >= 0 {
			paths = append(paths, strings.TrimSuffix(line[at:], "\n"))
		}
	}
	return slices.Compact(paths)
}

// find loads the two libraries.
func find(o opener) (l loaded, err error) {
	if built != "" {
		return l, notSupported{built}
	}
	driverLibrary := o.getenv(envDriver)
	if driverLibrary == "" {
		driverLibrary = driverName
	}
	driver, lacks := o.open(driverLibrary, false)
	if driver != 0 {
		o.serves = rawDriverVersion(driver) / 1000
	}
	runtime, name, why := o.runtime()
	switch {
	case runtime == 0:
		err = notSupported{why}
	case driver == 0:
		err = notSupported{"no NVIDIA driver: " + lacks}
	default:
		l, err = bind(runtime, name, driver, driverLibrary)
	}
	if err != nil { // for InProcess not to take a runtime for somebody else's
		for _, library := range []uintptr{runtime, driver} {
			if library != 0 {
				rawClose(library)
			}
		}
	}
	return l, err
}

// bind finds the functions.
func bind(runtime uintptr, name string, driver uintptr, driverLibrary string) (l loaded, err error) {
	if missing, of := rawBind(runtime, driver); of != 0 {
		return l, notSupported{[]string{name, driverLibrary}[of-1] + " has no " + missing}
	}
	l.runtime, l.has = filepath.Base(name), rawHas()
	var r result
	l.version, l.driver, r = rawVersions()
	return l, failed(r, "")
}

// runtime opens the runtime: one that is in the process, then what the environment names, then the loader's, then those
// in the usual folders. It returns the name by which it was found, or why none was.
func (o opener) runtime() (library uintptr, name, why string) {
	if library, name = o.present(); library != 0 {
		return library, name, ""
	}
	if path := o.getenv(envRuntime); path != "" {
		if library, why = o.open(path, false); library == 0 {
			return 0, "", envRuntime + ": " + why
		}
		return library, path, ""
	}
	var broken string // the reason of a library that is there but cannot be loaded
	for _, name := range o.candidates() {
		if library, why = o.open(name, false); library != 0 {
			return library, name, ""
		}
		if broken == "" && !strings.Contains(why, "No such file") {
			broken = why
		}
	}
	if broken != "" {
		return 0, "", "no CUDA runtime: " + broken
	}
	return 0, "", fmt.Sprintf("no CUDA runtime: neither %s is installed (%s names one by its path)", strings.Join(runtimeNames(), " nor "), envRuntime)
}

// renamed is a runtime with a name of its own, as wheels and archives of PyTorch have them: libcudart-d0da41ae.so.11.0.
var renamed = regexp.MustCompile(`/libcudart-[0-9a-f]+\.so\.(13|12|11\.0)$`)

// present finds a runtime in the process: PyTorch's, which must then be ours, too, for the two to see the same state.
func (o opener) present() (library uintptr, name string) {
	for _, name := range append(runtimeNames(), "libcudart.so") {
		if library, _ := o.open(name, true); library != 0 {
			return library, name
		}
	}
	for _, path := range o.mapped() {
		if !renamed.MatchString(path) {
			continue
		}
		if library, _ := o.open(path, true); library != 0 {
			return library, path
		}
	}
	return 0, ""
}

// candidates lists the names and paths to try, in order. Those of a newer CUDA than the driver serves come last: they can be
// loaded, and then refuse every call.
func (o opener) candidates() []string {
	folders := []string{"/usr/local/cuda/lib64"}
	versioned, err := o.glob("/usr/local/cuda-*/lib64")
	if err == nil { // the pattern is well-formed
		slices.SortFunc(versioned, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) })
		folders = append(folders, versioned...)
	}
	folders = append(folders, "/opt/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib")
	list := runtimeNames()
	for _, folder := range folders {
		for _, name := range runtimeNames() {
			list = append(list, filepath.Join(folder, name))
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(o.tooNew(a), o.tooNew(b)) })
	return list
}

// tooNew returns 1 for a runtime that is newer than the driver, else 0.
func (o opener) tooNew(name string) int {
	_, version, _ := strings.Cut(filepath.Base(name), ".so.")
	if major := numbers(version); o.serves > 0 && len(major) > 0 && major[0] > o.serves {
		return 1
	}
	return 0
}

// numbers returns the numbers in a path, so that cuda-12.10 comes after cuda-12.9.
func numbers(path string) (list []int) {
	for field := range strings.FieldsFuncSeq(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(field); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// InProcess reports whether a CUDA runtime is in this process: loaded by this package with success, or by somebody else,
// such as PyTorch. It loads nothing.
func InProcess() bool {
	return inProcess.Load() || present()
}

func present() bool {
	library, _ := newOpener().present()
	if library == 0 {
		return false
	}
	rawClose(library)
	return true
}

// Available returns nil if CUDA can be used: the libraries are there and show a device to this process. It loads them.
// Otherwise the error wraps ErrNotSupported and says what is missing.
func Available() error {
	n, err := DeviceCount()
	switch {
	case errors.Is(err, ErrNotSupported):
		return err
	case err != nil:
		return notSupported{strings.TrimPrefix(err.Error(), "cuda: ")}
	case n == 0:
		return notSupported{"no device"}
	}
	return nil
}

// DeviceCount returns how many devices this process can see (CUDA_VISIBLE_DEVICES). It is an error, which wraps
// ErrNotSupported, if CUDA cannot be loaded or finds no driver or device.
//
// Implements: cudaGetDeviceCount.
func DeviceCount() (int, error) {
	if _, err := library(); err != nil {
		return 0, err
	}
	n, r := rawDeviceCount()
	return n, failed(r, "")
}

// Library describes CUDA in one line, e.g. "libcudart.so.12 (12.4), driver 13.0, 8 devices, stream memory operations",
// or says what is missing. The last part is of the first device, which it uses to find out.
//
// Implements: cudaRuntimeGetVersion, cudaDriverGetVersion.
func Library() string {
	l, err := library()
	if err != nil {
		return reason(err)
	}
	line := fmt.Sprintf("%s (%s), driver %s", l.runtime, version(l.version), version(l.driver))
	n, err := DeviceCount()
	if err != nil {
		return line + ", " + reason(err)
	}
	line += fmt.Sprintf(", %d devices", n)
	if n == 1 {
		line = strings.TrimSuffix(line, "s")
	}
	if n == 0 {
		return line
	}
	d, err := Open(0)
	if err != nil {
		return line + ", " + reason(err)
	}
	if !d.Properties().MemoryOperations {
		return line + ", no stream memory operations"
	}
	return line + ", stream memory operations"
}

// reason is the text of an error for one who knows that it is about CUDA.
func reason(err error) string {
	var lacks notSupported
	if errors.As(err, &lacks) {
		return lacks.missing
	}
	return strings.TrimPrefix(err.Error(), "cuda: ")
}

// version writes CUDA's numbers of versions: 12040 is 12.4.
func version(n int) string { return fmt.Sprintf("%d.%d", n/1000, n%1000/10) }
