// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// This file speaks version 1 of the wire protocol of PMI, which launchers of MPI programs offer to the processes that they
// start: MPICH's and Intel MPI's mpiexec (Hydra), and srun with --mpi=pmi2. A process finds a connection to its launcher in
// the file descriptor PMI_FD. Requests and answers are lines of words "name=value"; values must not hold blanks. No library of
// MPI is needed.

const (
	pmiKey = "hfreduce"
	// pmiLine bounds a line of the launcher's, and pmiValue a value where the launcher tells no bound; MPICH takes 1024.
	pmiLine, pmiValue = 16 << 10, 256
	// pmiRequest bounds a request: Slurm takes 1024 bytes for values, but reads no longer lines.
	pmiRequest = 1000
)

// pmiUsed are the descriptors that have been used: PMI ends with the one exchange that there is. Without its end a launcher takes
// the end of a process for a crash.
var pmiUsed struct {
	sync.Mutex
	fds map[int]bool
}

// pmi is the connection to a launcher.
type pmi struct {
	file *os.File
	in   *bufio.Reader
}

// pmiMeeting returns how the ranks that a launcher has started find each other: rank 0 gives a text, the others get it, when all
// have asked. It can be done once in a process.
func pmiMeeting(fd, rank int) func(context.Context, string) (string, error) {
	return func(ctx context.Context, text string) (string, error) {
		p, err := openPMI(fd)
		if err != nil {
			return "", err
		}
		defer p.file.Close()
		stop := context.AfterFunc(ctx, func() { _ = p.file.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		got, err := p.meet(rank == 0, text)
		if err != nil && ctx.Err() != nil {
			return "", fmt.Errorf("not all ranks have asked the launcher where to meet (PMI): %w", context.Cause(ctx))
		}
		return got, err
	}
}

func openPMI(fd int) (*pmi, error) {
	pmiUsed.Lock()
	defer pmiUsed.Unlock()
	if pmiUsed.fds[fd] {
		return nil, errors.New("the launcher can be asked once in a process (PMI): set HFREDUCE_RENDEZVOUS to host:port of rank 0 for another meeting")
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, fmt.Errorf("PMI_FD=%d is no connection to a launcher: was it closed, or is its variable left from a parent? Set HFREDUCE_RENDEZVOUS to host:port of rank 0", fd)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that it can have a deadline
		return nil, os.NewSyscallError("PMI_FD", err)
	}
	syscall.CloseOnExec(fd)
	if pmiUsed.fds == nil {
		pmiUsed.fds = map[int]bool{}
	}
	pmiUsed.fds[fd] = true
	f := os.NewFile(uintptr(fd), "PMI_FD")
	return &pmi{file: f, in: bufio.NewReaderSize(f, pmiLine)}, nil
}

// meet puts the text, or gets it, between the beginning and the end of PMI.
func (p *pmi) meet(put bool, text string) (string, error) {
	if _, err := p.call("init", "pmi_version=1 pmi_subversion=1"); err != nil {
		return "", err
	}
	maxes, err := p.call("get_maxes", "")
	if err != nil {
		return "", err
	}
	space, err := p.call("get_my_kvsname", "")
	if err != nil {
		return "", err
	}
	at := "kvsname=" + space["kvsname"] + " key=" + pmiKey
	if put {
		most, err := strconv.Atoi(maxes["vallen_max"])
		if err != nil {
			most = pmiValue
		}
		words := at + " value="
		text = shorten(text, min(most-1, pmiRequest-len(words))) // the bound counts C's zero
		if _, err := p.call("put", words+text); err != nil {
			return "", err
		}
	}
	if _, err := p.call("barrier_in", ""); err != nil {
		return "", err
	}
	if !put {
		got, err := p.call("get", at)
		if err != nil {
			return "", err
		}
		text = got["value"]
	}
	_, err = p.call("finalize", "")
	return text, err
}

// shorten leaves out the last of several parts, which have commas between, until the text has so many bytes.
func shorten(text string, most int) string {
	for len(text) > most {
		i := strings.LastIndexByte(text, ',')
		if i < 0 {
			break
		}
		text = text[:i]
	}
	return text
}

// call makes a request and returns the words of the answer.
func (p *pmi) call(command, words string) (map[string]string, error) {
	line := "cmd=" + command
	if words != "" {
		line += " " + words
	}
	if _, err := p.file.WriteString(line + "\n"); err != nil {
		return nil, fmt.Errorf("tell the launcher (PMI) %s: %w", command, err)
	}
	answer, err := p.in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("the launcher's answer (PMI) to %s: %w", command, err)
	}
	got := map[string]string{}
	for word := range strings.FieldsSeq(string(answer)) {
		if name, value, found := strings.Cut(word, "="); found {
			got[name] = value
		}
	}
	if rc, found := got["rc"]; found && rc != "0" {
		return nil, fmt.Errorf("the launcher refused %s (PMI): %s", command, strings.TrimSpace(string(answer)))
	}
	return got, nil
}
