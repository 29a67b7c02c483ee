// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// This file runs benchmarks that have no end of their own.

// A benchmark without end ends on a signal to its launcher, and so do its ranks.
func TestBenchEndsOnSignal(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd := program(t, nil, "bench", "-np", "2", "-b", "8", "-e", "8", "-N", "0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pids := pidsOf(t, readUntilRows(t, out))
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		// The pipe ends when the last process that writes to it has gone.
		for buffer := make([]byte, 1<<16); err == nil; {
			_, err = out.Read(buffer)
		}
		_ = cmd.Wait()
		if cmd.ProcessState.Success() {
			t.Errorf("%v: the end is a success", s)
		}
		for _, pid := range pids {
			if !gone(t, pid) {
				t.Errorf("%v: rank with pid %d is still there", s, pid)
			}
		}
	}
}

// gone waits until a process has ended and reports whether it did so in time.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
	return n == 1 && err == nil
}

// readUntilRows reads output until the table has begun.
func readUntilRows(t *testing.T, out interface{ Read([]byte) (int, error) }) string {
	t.Helper()
	text, buffer := "", make([]byte, 4096)
	for !anyRow.MatchString(text) {
		n, err := out.Read(buffer)
		if text += string(buffer[:n]); err != nil {
			t.Fatalf("%v after %s", err, text)
		}
	}
	return text
}

func pidsOf(t *testing.T, table string) (pids []int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`Pid +(\d+) on`).FindAllStringSubmatch(table, -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		t.Fatalf("no ranks in %s", table)
	}
	return pids
}

// Metrics of rank 0 can be scraped while the benchmark runs.
func TestBenchServesMetrics(t *testing.T) {
	cmd := program(t, nil, "bench", "-np", "2", "-b", "8", "-e", "8", "-N", "0", "--metrics", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	_, url, found := strings.Cut(strings.TrimSpace(line), "metrics at ")
	if err != nil || !found {
		t.Fatalf("%v, %q", err, line)
	}
	readUntilRows(t, out)
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || !strings.Contains(string(body), "hfreduce_") {
		t.Errorf("%v\n%s", err, body)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
}

// A rank that is killed ends the benchmark on all others, which say who is missing.
func TestBenchLosesARank(t *testing.T) {
	cmd := program(t, nil, "bench", "-np", "3", "--nodes", "3", "-b", "8", "-e", "8", "-N", "0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pidsOf(t, readUntilRows(t, out))[2], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 137 && code != codeLost {
		t.Errorf("exit code %d, want that of the rank that was killed first or of those that lost it", code)
	}
	if !strings.Contains(stderr.String(), "rank 2") {
		t.Errorf("nobody says which rank is missing: %s", &stderr)
	}
}
