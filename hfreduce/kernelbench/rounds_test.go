// SPDX-License-Identifier: Apache-2.0

package kernelbench

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestQuartiles(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want quartiles
	}{
		{[]float64{7}, quartiles{7, 7, 7}},
		{[]float64{3, 1}, quartiles{1.5, 2, 2.5}},
		{[]float64{5, 1, 4, 2, 3}, quartiles{2, 3, 4}},
		{[]float64{1, 2, 3, 1000}, quartiles{1.75, 2.5, 252.25}},
	} {
		if got := quartilesOf(c.in); got != c.want {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
	if got := (quartiles{9, 10, 12}).spread(); got != 15 {
		t.Errorf("spread %v, want 15", got)
	}
	if got := (quartiles{}).spread(); !math.IsNaN(got) {
		t.Errorf("spread of nothing is %v", got)
	}
}

func TestOrders(t *testing.T) {
	a, b := orders(20, 6, 1), orders(20, 6, 1)
	different := 0
	for i := range a {
		if !slices.Equal(a[i], b[i]) {
			t.Error("one seed gives two orders")
		}
		if !slices.Equal(a[i], a[0]) {
			different++
		}
		slices.Sort(b[i])
		if !slices.Equal(b[i], []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("round %d: %v", i, a[i])
		}
	}
	if different < 15 {
		t.Errorf("%d of 20 rounds have an order of their own", different)
	}
	if slices.EqualFunc(a, orders(20, 6, 2), slices.Equal[[]int]) {
		t.Error("two seeds give one order")
	}
}

// On a machine that becomes slower all the time, ratios hold.
func TestInterleave(t *testing.T) {
	speed := 100.0
	limit := func() float64 { speed--; return speed }
	measure := func(task int) (float64, error) { speed--; return speed * float64(task+1) / 4, nil }
	tasks, limits, err := interleave([][]int{{0, 1, 2}, {2, 0, 1}}, 3, measure, limit)
	if err != nil || len(limits) != 2*(3+1) {
		t.Fatalf("%v, limits %v", err, limits)
	}
	for i, f := range tasks {
		if len(f.rates) != 2 || len(f.limits) != 2 {
			t.Fatalf("task %d: %+v", i, f)
		}
		for _, ratio := range f.ratios() {
			if want := float64(i+1) / 4; math.Abs(ratio-want) > 1e-9 {
				t.Errorf("task %d: ratio %v, want %v", i, ratio, want)
			}
		}
	}
	if tasks[2].limits[0] != (limits[2]+limits[3])/2 || tasks[2].limits[1] != (limits[4]+limits[5])/2 {
		t.Errorf("task 2, third and then first, is held against %v of %v", tasks[2].limits, limits)
	}
	stop := errors.New("stop")
	if _, _, err := interleave([][]int{{0}}, 1, func(int) (float64, error) { return 0, stop }, limit); !errors.Is(err, stop) {
		t.Errorf("the error is %v", err)
	}
}

// slow is a task whose calls take so long on its clock.
func slow(call time.Duration) (*task, stopwatch) {
	now := time.Duration(0)
	t := &task{run: func(times int) { now += time.Duration(times) * call }, bytes: 1000}
	return t, stopwatch{func() time.Duration { return now }}
}

func TestCalibrate(t *testing.T) {
	for _, call := range []time.Duration{0, 1, 30, time.Microsecond, 700 * time.Microsecond, time.Millisecond, time.Second} {
		task, watch := slow(call)
		watch.calibrate(task)
		took := call * time.Duration(task.times)
		if call > 0 && (took < slice || took > max(call, 2*slice)) {
			t.Errorf("%d calls of %v take %v", task.times, call, took)
		}
	}
}

func TestSample(t *testing.T) {
	task, watch := slow(500 * time.Nanosecond)
	calls := 0
	run := task.run
	task.run = func(times int) { calls += times; run(times) }
	task.times = 10
	if got := watch.sample(task); got != 2 || calls != 10 {
		t.Errorf("%v GB/s in %d calls, want 2 in 10", got, calls)
	}
	task.warm = true
	if got := watch.sample(task); got != 2 || calls != 10+11 {
		t.Errorf("warm: %v GB/s in %d calls, want 2 in 11", got, calls-10)
	}
}

func TestPace(t *testing.T) {
	s := subject{size: 1 << 20}
	p := newPace([]group{{cases: []subject{s, s}}}, 5)
	if p.total != 10 || p.left(7*time.Second) != "" {
		t.Fatalf("%+v", p)
	}
	for range 4 {
		p.advance(s)
	}
	for now, want := range map[time.Duration]string{
		7*time.Second + time.Millisecond: "", 27 * time.Second: ", about 30 s left", 27 * time.Minute: ", about 40 min left",
	} {
		if got := p.left(now); got != want {
			t.Errorf("at %v: %q, want %q", now, got, want)
		}
	}
}
