// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
	"github.com/hfreduce/hfreduce/internal/testcert"
)

// judged has a job's hub word a case so that tests see all of it.
func judged(cfg Config) Config {
	cfg.Judge = func(k Case) string {
		return fmt.Sprintf("%s by %d; answers %v; lost %v", k.Report, k.Reporter, k.Answers, slices.Sorted(maps.Keys(k.Lost)))
	}
	return cfg
}

// answering has every rank answer with its number.
func answering(ss []*Session) {
	for rank, s := range ss {
		s.Answer(func(scope, report string) string { return fmt.Sprint(scope, "/", rank) })
	}
}

// until skips events of other kinds.
func until(t *testing.T, c chan Event, k EventKind) Event {
	t.Helper()
	for {
		if e := next(t, c); e.Kind == k {
			return e
		}
	}
}

// mustCallRoll calls the roll on some ranks.
func mustCallRoll(t *testing.T, ss []*Session, key string, members []int) []Roll {
	t.Helper()
	rolls := make([]Roll, len(ss))
	var wg sync.WaitGroup
	for i, s := range ss {
		wg.Go(func() {
			var err error
			if rolls[i], err = s.RollCall(t.Context(), key, members, patience, fmt.Append(nil, s.rank)); err != nil {
				t.Errorf("rank %d: %v", s.rank, err)
			}
		})
	}
	wg.Wait()
	return rolls
}

func TestReportsGiveOneVerdict(t *testing.T) {
	ss := world(t, judged(job(t, 4)))
	answering(ss)
	var watches []chan Event
	for _, s := range ss {
		watches = append(watches, watch(s))
	}
	members := []int{3, 1, 0}
	for _, rank := range members {
		ss[rank].Report("c", members, fmt.Sprint("stall ", rank))
	}
	first := until(t, watches[0], Verdict)
	for _, rank := range []int{1, 3} {
		if e := until(t, watches[rank], Verdict); e != first {
			t.Errorf("rank %d heard %+v, rank 0 %+v", rank, e, first)
		}
	}
	want := fmt.Sprintf("stall %d by %d; answers map[0:c/0 1:c/1 3:c/3]; lost []", first.Rank, first.Rank)
	if first.Text != want || first.Scope != "c" {
		t.Errorf("heard %+v, want %q", first, want)
	}
	if len(watches[2]) > 0 {
		t.Errorf("rank 2, no member, heard %+v", <-watches[2])
	}
}

// TestSilentRankDoesNotHoldUpTheVerdict: rank 2 does not answer for longer than the hub waits.
func TestSilentRankDoesNotHoldUpTheVerdict(t *testing.T) {
	ss := world(t, judged(job(t, 3)))
	answering(ss)
	release := make(chan struct{})
	ss[2].Answer(func(string, string) string { <-release; return "" })
	defer close(release)
	heard := watch(ss[1])
	ss[1].Report("c", []int{0, 1, 2}, "stall")
	if e := until(t, heard, Verdict); e.Text != "stall by 1; answers map[0:c/0 1:c/1]; lost []" {
		t.Errorf("heard %q", e.Text)
	}
}

// TestSuccession loses the hub, and then the hub after it: the others are told one verdict each time, exchange and call the
// roll without them.
func TestSuccession(t *testing.T) {
	t.Run("clear", func(t *testing.T) { testSuccession(t, job(t, 5)) })
	t.Run("TLS", func(t *testing.T) {
		cfg, a := job(t, 5), testcert.NewAuthority(t)
		cfg.TLS = hello.NewTLS(a.Issue(nil), a.Roots())
		testSuccession(t, cfg)
	})
}

func testSuccession(t *testing.T, cfg Config) {
	ss := world(t, judged(cfg))
	answering(ss)
	for lost := range 3 {
		left := ss[lost+1:]
		var watches []chan Event
		for _, s := range left {
			watches = append(watches, watch(s))
		}
		ss[lost].cut()
		ranks := []int{0, 1, 2, 3, 4}
		scope := fmt.Sprint("scope ", lost)
		left[1].Report(scope, ranks, "lost") // the next hub may not be one yet
		var verdicts []string
		for _, c := range watches {
			for e := until(t, c, Verdict); ; e = until(t, c, Verdict) {
				if e.Scope == scope { // earlier ones are kept for late subscribers
					verdicts = append(verdicts, e.Text)
					break
				}
			}
		}
		answers := map[int]string{}
		for _, r := range ranks[lost+1:] {
			answers[r] = fmt.Sprint(scope, "/", r)
		}
		if want := fmt.Sprintf("lost by %d; answers %v; lost %v", lost+2, answers, ranks[:lost+1]); verdicts[0] != want {
			t.Errorf("the verdict is %q, want %q", verdicts[0], want)
		}
		if len(slices.Compact(verdicts)) != 1 {
			t.Errorf("ranks heard different verdicts: %q", verdicts)
		}
		mustExchange(t, left, fmt.Sprint("after ", lost), ranks[lost+1:])
		for i, r := range mustCallRoll(t, left, fmt.Sprint("roll ", lost), ranks) {
			if r.Epoch != (lost+1)*epochsPerHub+1 || !slices.Equal(r.Ranks, ranks[lost+1:]) || len(r.Parts) != len(left) || string(r.Parts[0]) != fmt.Sprint(lost+1) {
				t.Errorf("rank %d: the roll is %v", left[i].rank, r)
			}
		}
		for _, s := range left {
			if s.Hub() != lost+1 {
				t.Errorf("rank %d: the hub is rank %d, want %d", s.rank, s.Hub(), lost+1)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range ss[3:] {
		wg.Go(func() {
			if err := s.Close(ctx); err != nil {
				t.Errorf("rank %d: %v", s.rank, err)
			}
		})
	}
	wg.Wait()
}

// TestSuccessionTurnsOthersAway: who is not of the job's processes, or lost, does not get into the new star.
func TestSuccessionTurnsOthersAway(t *testing.T) {
	ss := world(t, job(t, 3))
	lost := watch(ss[1])
	ss[0].cut()
	until(t, lost, PeerLost)
	mustCallRoll(t, ss[1:], "after", []int{1, 2})
	s := ss[2]
	peers := slices.Clone(s.peers)
	peers[2].PID++
	other := &Session{rank: 2, cfg: s.cfg, peers: peers, life: t.Context()}
	_, err := other.comeOver(1)
	mustContain(t, err, "is not rank 2 of this job")
	dead := &Session{rank: 0, cfg: s.cfg, peers: s.peers, life: t.Context()}
	_, err = dead.comeOver(1)
	if mustContain(t, err, "is lost"); !errors.Is(err, errCutOff) {
		t.Errorf("%v is not errCutOff", err)
	}
	mustExchange(t, ss[1:], "unharmed", []int{1, 2}) // nothing of it did harm
}

// TestCutOffRank: a rank whose connection ends while the hub lives finds that nobody has taken the hub's place.
func TestCutOffRank(t *testing.T) {
	ss := world(t, job(t, 3))
	heard := watch(ss[1])
	ss[2].wire.kill()
	if e := until(t, heard, PeerLost); e.Rank != 2 {
		t.Errorf("rank 1 heard %+v", e)
	}
	select {
	case <-ss[2].ended:
	case <-time.After(patience):
		t.Fatal("rank 2 has a control channel of its own")
	}
	_, err := ss[2].Exchange(t.Context(), "k", []int{1, 2}, nil)
	if mustContain(t, err, "the control channel", errNotHub.Error()); !errors.Is(err, ErrPeerLost) {
		t.Errorf("%v is not ErrPeerLost", err)
	}
	mustExchange(t, ss[:2], "the others", []int{0, 1})
}

// TestOutcomeOfTries: the end of all tries may cut the last one off, which then tells nothing of a rank that has just answered. One
// that has not answered for longer is gone.
func TestOutcomeOfTries(t *testing.T) {
	const try = 5 * time.Second
	refused, failed, begin := errors.New("refused"), errors.New("i/o timeout"), time.Now()
	for _, c := range []struct {
		tries attempts
		after time.Duration
		want  error
	}{
		{attempts{}, try, nil},
		{attempts{failed: failed}, 2 * try, errNoHost},
		{attempts{failed: failed, heard: true}, 2 * try, failed},
		{attempts{refused: refused, at: begin, heard: true}, 2 * try, refused},
		{attempts{refused: refused, at: begin, failed: failed, heard: true}, time.Second, refused},
		{attempts{refused: refused, at: begin, failed: failed, heard: true}, 2 * try, failed},
	} {
		if got := c.tries.outcome(begin.Add(c.after), try); !errors.Is(got, c.want) || errors.Is(got, errNoHost) != (c.want == errNoHost) {
			t.Errorf("%+v come to %v after %v, want %v", c.tries, got, c.after, c.want)
		}
	}
}

// twoNodes joins five ranks, of which 0, 1 and 2 are on node a and 3 and 4 on b.
func twoNodes(t *testing.T, cfg Config) []*Session {
	t.Helper()
	var cfgs []Config
	for rank := range cfg.WorldSize {
		c := cfg.rankOf(rank)
		c.Node = []string{"a", "a", "a", "b", "b"}[rank]
		cfgs = append(cfgs, c)
	}
	return sessions(t, joinAll(t.Context(), cfgs...))
}

// TestSilentHostOfTheNextHub: the hub's process ends, and the host of the next one does not answer. The ranks behind that on its node
// are not tried as well, and the others go on.
func TestSilentHostOfTheNextHub(t *testing.T) {
	cfg := job(t, 5)
	cfg.pace.attempt = time.Second
	ss := twoNodes(t, cfg)
	silent := silentPort(t)
	var events []chan Event
	for _, s := range ss[3:] {
		events = append(events, watch(s))
		s.mu.Lock() // what the loss of the hub begins with, so that its search for another sees this
		for rank := 1; rank < 3; rank++ {
			s.peers[rank].Addrs = []netip.AddrPort{silent}
		}
		s.mu.Unlock()
	}
	ss[0].cut()
	for i, c := range events {
		for lost := range 3 {
			if e := until(t, c, PeerLost); e.Rank != lost || lost == 2 && !strings.HasPrefix(e.Text, "it is on the host of rank 1: its host did not answer: ") {
				t.Errorf("rank %d heard %+v", 3+i, e)
			}
		}
	}
	mustExchange(t, ss[3:], "by themselves", []int{3, 4})
	for i, r := range mustCallRoll(t, ss[3:], "roll", []int{0, 1, 2, 3, 4}) {
		if !slices.Equal(r.Ranks, []int{3, 4}) {
			t.Errorf("rank %d: the roll is %v", 3+i, r)
		}
	}
}

// silentPort returns an address at which nobody answers a connection, not even by a refusal: the kernel's queue there is full.
func silentPort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	for range 10 {
		conn, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue does not get full")
	return addr
}

// TestRollCallsOfTwoHubsDiffer: what is named by the epoch is not named twice when the hub is lost between two calls of one key.
func TestRollCallsOfTwoHubsDiffer(t *testing.T) {
	ss := world(t, job(t, 3))
	first := mustCallRoll(t, ss, "k", []int{0, 1, 2})
	ss[0].cut()
	second := mustCallRoll(t, ss[1:], "k", []int{0, 1, 2})
	for i := range second {
		if second[i].Epoch <= first[i].Epoch || second[i].Epoch != second[0].Epoch {
			t.Errorf("epochs are %v, then %v", first, second)
		}
	}
}

// TestAbsentRankIsWaitedFor: a rank that had no part in a roll call, but in other things afterwards, is not left behind at the end.
func TestAbsentRankIsWaitedFor(t *testing.T) {
	ss := world(t, job(t, 3))
	heard := watch(ss[2])
	var wg sync.WaitGroup
	for _, s := range ss[:2] {
		wg.Go(func() {
			if r, err := s.RollCall(t.Context(), "k", []int{0, 1, 2}, 50*time.Millisecond, nil); err != nil || len(r.Ranks) != 2 {
				t.Errorf("rank %d: %v, %v", s.rank, r, err)
			}
		})
	}
	wg.Wait()
	mustExchange(t, ss, "life", []int{0, 1, 2})
	for _, s := range ss[:2] {
		wg.Go(func() {
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("rank %d: %v", s.rank, err)
			}
		})
	}
	select {
	case e := <-heard:
		t.Errorf("rank 2 heard %+v", e)
	case <-time.After(300 * time.Millisecond):
	}
	if err := ss[2].Close(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestAbortWithoutHub: what is told when the hub has gone, but nobody has taken its place yet, is told by the next one.
func TestAbortWithoutHub(t *testing.T) {
	ss := world(t, job(t, 3))
	heard := watch(ss[1])
	ss[0].cut()
	ss[2].Abort("c", "over")
	if e := until(t, heard, Abort); e.Rank != 2 || e.Scope != "c" || e.Text != "over" {
		t.Errorf("heard %+v", e)
	}
}

// TestCaseOutlivesItsReporterAndHub: rank 0 reports to itself, asks, and is lost. Who was asked has the next hub judge.
func TestCaseOutlivesItsReporterAndHub(t *testing.T) {
	ss := world(t, judged(job(t, 3)))
	answering(ss)
	asked, release := make(chan struct{}, 2), make(chan struct{})
	ss[2].Answer(func(string, string) string {
		asked <- struct{}{}
		<-release
		return "two"
	})
	heard := watch(ss[2])
	ss[0].Report("c", []int{0, 2}, "stall")
	<-asked
	ss[0].cut()
	close(release)
	if e := until(t, heard, Verdict); e.Rank != 0 || e.Text != "stall by 0; answers map[2:two]; lost [0]" {
		t.Errorf("rank 2 heard %+v", e)
	}
}

// TestRollCallGivenUp: a rank whose context ends does not count as there, and may come again.
func TestRollCallGivenUp(t *testing.T) {
	ss := world(t, job(t, 3))
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("had enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
	if _, err := ss[1].RollCall(ctx, "k", []int{0, 1, 2}, patience, nil); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	for i, r := range mustCallRoll(t, ss, "k", []int{0, 1, 2}) {
		if !slices.Equal(r.Ranks, []int{0, 1, 2}) {
			t.Errorf("rank %d: the roll is %v", i, r)
		}
	}
}
