// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/hfreduce/hfreduce/hfreduce"
)

// limit returns MaxBytes, or the largest size that the ranks of every host have memory for: each has two buffers, and an
// eighth of the memory stays free for staging and the system. All ranks get the same.
func (r *rank) limit(ctx context.Context, available int64) (int64, error) {
	sharing := 0
	infos := r.control.comm.Ranks()
	host := infos[r.control.comm.Rank()].Host
	for _, info := range infos {
		if info.Host == host {
			sharing++
		}
	}
	onGPU, err := r.gpuLimit()
	if err != nil {
		return 0, err
	}
	most := min(float64(available/8*7)/2/float64(sharing), float64(onGPU))
	if most, err = r.control.reduce(ctx, math.Floor(most), hfreduce.Min); err != nil {
		return 0, err
	}
	if most >= float64(r.cfg.MaxBytes) {
		return r.cfg.MaxBytes, nil
	}
	if most < 1 {
		return 0, fmt.Errorf("bench: no memory for buffers; %d ranks share host %s%s", sharing, host, r.gpuSharing())
	}
	r.cfg.MinBytes = min(r.cfg.MinBytes, int64(most))
	return int64(most), nil
}

// availableMemory returns the bytes that this process can get: what the system has, or its control group if that is
// less. Where it cannot be told it returns so much that it does not matter.
func availableMemory() int64 {
	meminfo, _ := os.ReadFile("/proc/meminfo")
	limit, _ := os.ReadFile("/sys/fs/cgroup/memory.max")
	current, _ := os.ReadFile("/sys/fs/cgroup/memory.current")
	return min(memAvailable(string(meminfo)), groupAvailable(string(limit), string(current)))
}

// plenty stands for memory without a known limit.
const plenty = int64(1) << 50

// memAvailable reads MemAvailable from the text of /proc/meminfo.
func memAvailable(text string) int64 {
	_, rest, found := strings.Cut(text, "MemAvailable:")
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 || fields[1] != "kB" {
		return plenty
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || kib > plenty>>10 {
		return plenty
	}
	return kib << 10
}

// groupAvailable returns what is left of a control group's memory; its limit is "max" where there is none.
func groupAvailable(limit, current string) int64 {
	most, err := strconv.ParseInt(strings.TrimSpace(limit), 10, 64)
	used, err2 := strconv.ParseInt(strings.TrimSpace(current), 10, 64)
	if err != nil || err2 != nil {
		return plenty
	}
	return max(0, most-used)
}
