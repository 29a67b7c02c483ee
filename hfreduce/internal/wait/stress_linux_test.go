// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The stress: ringers post numbers to the owner of one bell and sleep on a bell of their own until the owner has
// acknowledged them; the owner sleeps whenever it finds nothing. All sleep without spinning, so that nearly every number
// meets the windows of the protocol, and one lost wake-up stops the sleeper until its timeout tells.
const (
	ringers = 4
	posts   = 1500
)

// board is what the owner and the ringers share, in the heap or in a mapped file.
type board struct {
	words [1 + ringers]struct { // [0] the owner's bell, then the ringers'
		word [2]uint32
		_    [56]byte
	}
	posted [ringers]uint32
	acked  [ringers]uint32
}

var errLost = errors.New("lost wake-up")

// await sleeps on bell until ready reports true.
func await(bell Bell, ready func() bool) error {
	for !ready() {
		bell.Arm()
		if ready() {
			bell.Disarm()
			return nil
		}
		begin := time.Now()
		if !bell.Sleep(long) || time.Since(begin) >= long { // one that the timeout ended may still see the mark
			return errLost
		}
	}
	return nil
}

// ring posts in pairs: the first post of a pair wakes the owner, the second one comes at some moment of the owner's way
// through its work and back to sleep.
func (b *board) ring(i int, owner, own Bell) error {
	for k := uint32(1); k <= posts; k++ {
		if k%2 == 0 {
			Pause(rand.IntN(6000)) // up to some 60 µs, about what a wake-up takes
		}
		atomic.StoreUint32(&b.posted[i], k)
		owner.Ring()
		if k%2 == 1 && k < posts {
			continue
		}
		if err := await(own, func() bool { return atomic.LoadUint32(&b.acked[i]) == k }); err != nil {
			return fmt.Errorf("ringer %d, post %d: %w", i, k, err)
		}
	}
	return nil
}

// serve is the owner. bells are its own and the ringers'.
func (b *board) serve(bells [1 + ringers]Bell) error {
	acknowledge := func() (some bool) {
		for i := range ringers {
			if k := atomic.LoadUint32(&b.posted[i]); k != b.acked[i] {
				atomic.StoreUint32(&b.acked[i], k)
				bells[1+i].Ring()
				some = true
			}
		}
		return some
	}
	finished := func() bool {
		for i := range ringers {
			if b.acked[i] != posts {
				return false
			}
		}
		return true
	}
	for !finished() {
		if err := await(bells[0], acknowledge); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	return nil
}

func TestBellStress(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			stress(t, k.make, 1) // no other ringer's ring hides a lost one
			stress(t, k.make, ringers)
		})
	}
}

func stress(t *testing.T, kind func(*testing.T) pair, active int) {
	b := new(board)
	for i := active; i < ringers; i++ {
		b.acked[i], b.posted[i] = posts, posts
	}
	var owners, remotes [1 + ringers]Bell
	for i := range owners {
		p := kind(t)
		owners[i], remotes[i] = p.owner, p.ringer
	}
	var group sync.WaitGroup
	for i := range active {
		group.Go(func() {
			if err := b.ring(i, remotes[0], owners[1+i]); err != nil {
				t.Error(err)
			}
		})
	}
	if err := b.serve([1 + ringers]Bell{owners[0], remotes[1], remotes[2], remotes[3], remotes[4]}); err != nil {
		t.Error(err)
	}
	group.Wait()
}

// views makes this process's view of all bells. In epoll mode bell i uses eventfd i, and those that sleep here watch
// silent, a descriptor on which nothing happens.
func (b *board) views(mode string, silent int, eventfd func(int) int, own func(int) bool) (v [1 + ringers]Bell, err error) {
	for i := range v {
		fd := -1
		if mode == "epoll" {
			fd = eventfd(i)
		}
		v[i] = NewShared(&b.words[i].word, fd)
		if fd < 0 || !own(i) {
			continue
		}
		if err := v[i].Watch(silent, true, false); err != nil {
			return v, err
		}
	}
	return v, nil
}

func mapBoard(fd int) (*board, []byte, error) {
	mem, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(board{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*board)(unsafe.Pointer(&mem[0])), mem, nil
}

// The child is ringers 2 and 3; descriptor 3 is the board, 4.. are the eventfds.
func childOwns(i int) bool { return i > ringers/2 }

func stressChild(mode string) error {
	b, _, err := mapBoard(3)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	bells, err := b.views(mode, pipe[0], func(i int) int { return 4 + i }, childOwns)
	if err != nil {
		return err
	}
	return b.ringAll(bells, childOwns)
}

func (b *board) ringAll(bells [1 + ringers]Bell, mine func(i int) bool) error {
	errs := make([]error, ringers)
	var group sync.WaitGroup
	for i := range ringers {
		if mine(1 + i) {
			group.Go(func() { errs[i] = b.ring(i, bells[0], bells[1+i]) })
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

func TestBellStressTwoProcesses(t *testing.T) {
	for _, mode := range []string{"futex", "epoll"} {
		t.Run(mode, func(t *testing.T) { stressTwoProcesses(t, mode) })
	}
}

func stressTwoProcesses(t *testing.T, mode string) {
	fd, err := unix.MemfdCreate("hfreduce-wait-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "board")
	defer func() { _ = file.Close() }()
	if err := file.Truncate(int64(unsafe.Sizeof(board{}))); err != nil {
		t.Fatal(err)
	}
	b, mem, err := mapBoard(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envStress+"="+mode)
	child.ExtraFiles = []*os.File{file}
	var eventfds [1 + ringers]int
	for i := range eventfds {
		eventfds[i] = newEventFD(t)
		child.ExtraFiles = append(child.ExtraFiles, duplicate(t, eventfds[i]))
	}
	parentOwns := func(i int) bool { return !childOwns(i) }
	silent, _ := newPipe(t)
	bells, err := b.views(mode, silent, func(i int) int { return eventfds[i] }, parentOwns)
	defer closeAll(t, bells[:]...)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	child.Stdout, child.Stderr = &out, &out
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.ringAll(bells, func(i int) bool { return i > 0 && parentOwns(i) }) }()
	if err := errors.Join(b.serve(bells), <-done); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("ringing process: %v: %s", err, out.String())
	}
}

// TestSharedDekker looks at the protocol's two crossing pairs of a store and a load themselves, in mapped memory: whoever
// misses the other's store must have been seen by it. Without sleeps between them, the pairs cross in most rounds.
func TestSharedDekker(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(board{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	b := (*board)(unsafe.Pointer(&mem[0]))
	word, flag := &b.words[0].word, &b.posted[0]
	owner, ringer := NewShared(word, -1), NewShared(word, -1)
	defer closeAll(t, owner, ringer)

	const rounds = 100_000
	meet := func(mine, theirs *uint32) { // in mapped memory as well, where the race detector is quickest
		k := atomic.AddUint32(mine, 1)
		for i := 0; atomic.LoadUint32(theirs) < k; i++ {
			if i > 1000 { // fewer processors than goroutines
				runtime.Gosched()
			}
		}
	}
	here, there := &b.words[1].word[0], &b.words[2].word[0]
	var group sync.WaitGroup
	group.Go(func() {
		for k := uint32(1); k <= rounds; k++ {
			meet(there, here)
			atomic.StoreUint32(flag, k)
			ringer.Ring()
			meet(there, here)
		}
	})
	lost := 0
	for k := uint32(1); k <= rounds; k++ {
		rings := atomic.LoadUint32(&word[seqWord])
		meet(here, there)
		owner.Arm()
		seen := atomic.LoadUint32(flag) == k
		meet(here, there)
		if !seen && atomic.LoadUint32(&word[seqWord]) == rings {
			lost++
		}
		owner.Disarm()
	}
	group.Wait()
	if lost > 0 {
		t.Errorf("%d of %d rings neither found the owner armed nor were seen by it", lost, rounds)
	}
}

func duplicate(t *testing.T, fd int) *os.File {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(d), "eventfd")
	t.Cleanup(func() { _ = f.Close() })
	return f
}
