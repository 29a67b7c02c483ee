// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Found is what the environment says about this rank and its job.
type Found struct {
	Launcher        string // whose variables told rank and world size
	Rank, WorldSize int
	Rendezvous      []string // candidates "host:port" of rank 0
	JobID           string
	Node            string
	Secret          []byte
	Interfaces      []string
	PortRange       [2]int
	Timeout         time.Duration // of Join; 0: not set
	Meet            Meet          // the launcher's, where it has one and Rendezvous is empty
}

// Config turns what was found into a configuration for Join.
func (f Found) Config() Config {
	return Config{
		Rank: f.Rank, WorldSize: f.WorldSize, Rendezvous: f.Rendezvous, JobID: f.JobID, Secret: f.Secret, Node: f.Node,
		Interfaces: f.Interfaces, PortRange: f.PortRange, Timeout: f.Timeout, Meet: f.Meet,
	}
}

// The variables that are ours. They win over a launcher's.
const (
	envRank        = "HFREDUCE_RANK"
	envWorldSize   = "HFREDUCE_WORLD_SIZE"
	envRendezvous  = "HFREDUCE_RENDEZVOUS" // host:port or tcp://host:port; several with commas
	envJobID       = "HFREDUCE_JOB_ID"
	envNode        = "HFREDUCE_NODE"
	envSecret      = "HFREDUCE_SECRET"
	envSecretFile  = "HFREDUCE_SECRET_FILE"
	envInterfaces  = "HFREDUCE_INTERFACES" // names, patterns, prefixes; with commas
	envPortRange   = "HFREDUCE_PORT_RANGE" // lo-hi
	envInitTimeout = "HFREDUCE_INIT_TIMEOUT"
)

// maxSecretFile bounds a secret file in bytes.
const maxSecretFile = 64 << 10

// Detect finds this rank in the environment: the first launcher of the table whose variables are there. getenv returns
// "" for a variable that is not set, as os.Getenv does; a secret file is read from the file system. An error names
// every faulty variable, its value and what would be right; beside it only Launcher, Rank and WorldSize are told, as far as
// they are known. Without any launcher it is ErrNoLauncher.
func Detect(getenv func(string) string) (Found, error) {
	v := &variables{getenv: getenv}
	var f Found
	for _, l := range launchers() {
		if l.present(getenv) {
			f.Launcher = l.name
			l.read(v, &f)
			break
		}
	}
	if f.Launcher == "" {
		return Found{}, fmt.Errorf("%w: set %s, %s and %s, or start the program with hfreduce launch, torchrun, srun or mpirun%s",
			ErrNoLauncher, envRank, envWorldSize, envRendezvous, v.seen("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PMI_RANK", "SLURM_JOB_ID", "SLURM_STEP_ID"))
	}
	v.settings(&f)
	if f.WorldSize > 1 && len(f.Rendezvous) == 0 && f.Meet == nil && len(v.faults) == 0 {
		v.fault("%s is missing: set it to host:port of rank 0", envRendezvous)
	}
	if len(v.faults) > 0 {
		return Found{Launcher: f.Launcher, Rank: f.Rank, WorldSize: f.WorldSize}, fmt.Errorf("bootstrap: environment of %s: %w", f.Launcher, errors.Join(v.faults...))
	}
	return f, nil
}

// Settings reads what Detect reads under every launcher: all but Launcher, Rank and WorldSize, for a rank that knows those
// two. Rendezvous may come empty.
func Settings(getenv func(string) string) (Found, error) {
	v := &variables{getenv: getenv}
	var f Found
	v.settings(&f)
	if len(v.faults) > 0 {
		return Found{}, fmt.Errorf("bootstrap: environment: %w", errors.Join(v.faults...))
	}
	return f, nil
}

// variables reads the environment and collects what is wrong with it.
type variables struct {
	getenv func(string) string
	faults []error
}

func (v *variables) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf(format, args...))
}

// number reads a required number within lo..hi.
func (v *variables) number(name string, lo, hi int) int {
	s := v.getenv(name)
	if s == "" {
		v.fault("%s is missing", name)
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		v.fault("%s=%q is not a whole number within %d..%d", name, s, lo, hi)
		return 0
	}
	return n
}

// rankAndSize reads the pair; rank and size must fit together.
func (v *variables) rankAndSize(rankName, sizeName string, f *Found) {
	before := len(v.faults)
	f.Rank = v.number(rankName, 0, maxWorldSize-1)
	f.WorldSize = v.number(sizeName, 1, maxWorldSize)
	if len(v.faults) == before && f.Rank >= f.WorldSize {
		v.fault("%s=%d with %s=%d: ranks count from 0 to %d", rankName, f.Rank, sizeName, f.WorldSize, f.WorldSize-1)
	}
}

// settings reads what is ours under every launcher.
func (v *variables) settings(f *Found) {
	if s := v.getenv(envRendezvous); s != "" {
		f.Rendezvous = nil
		for _, part := range split(s) {
			addr, err := parseAddress(part)
			if err != nil {
				v.fault("%s=%q: %w", envRendezvous, s, err)
			}
			f.Rendezvous = append(f.Rendezvous, addr)
		}
	}
	if s := v.getenv(envJobID); s != "" {
		f.JobID = s
	}
	f.Node = v.getenv(envNode)
	if len(f.Node) > maxName {
		v.fault("%s has %d bytes, at most %d are allowed", envNode, len(f.Node), maxName)
	}
	f.Interfaces = split(v.getenv(envInterfaces))
	if _, err := parseFilters(f.Interfaces); err != nil {
		v.fault("%w", err)
	}
	f.PortRange = v.portRange()
	f.Secret = v.secret()
	if s := v.getenv(envInitTimeout); s != "" {
		var err error
		if f.Timeout, err = time.ParseDuration(s); err != nil || f.Timeout == 0 {
			v.fault("%s=%q is not a duration such as 90s or 5m (negative: wait for ever)", envInitTimeout, s)
		}
	}
}

// split cuts a list with commas; empty entries are dropped.
func split(s string) []string {
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}

func (v *variables) portRange() [2]int {
	s := v.getenv(envPortRange)
	if s == "" {
		return [2]int{}
	}
	lo, hi, found := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(strings.TrimSpace(lo), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(hi), 10, 16)
	if !found || errA != nil || errB != nil || a == 0 || a > b {
		v.fault("%s=%q is not lo-hi with 1 <= lo <= hi <= 65535", envPortRange, s)
		return [2]int{}
	}
	return [2]int{int(a), int(b)}
}

// secret reads the secret; its value never gets into an error.
func (v *variables) secret() []byte {
	direct, file := v.getenv(envSecret), v.getenv(envSecretFile)
	switch {
	case direct != "" && file != "":
		v.fault("both %s and %s are set: set one", envSecret, envSecretFile)
		return nil
	case direct != "" || file == "":
		return []byte(direct)
	}
	secret, err := readSecret(file)
	if err != nil {
		v.fault("%s=%q: %w", envSecretFile, file, err)
	}
	return secret
}

// readSecret reads a regular file of bounded length, without the newline that editors end it with.
func readSecret(name string) ([]byte, error) {
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	b = []byte(strings.TrimSpace(string(b)))
	if len(b) == 0 || len(b) > maxSecretFile {
		return nil, fmt.Errorf("the secret must have 1 to %d bytes", maxSecretFile)
	}
	return b, nil
}

// seen lists which of the variables are set, for an error.
func (v *variables) seen(names ...string) string {
	var set []string
	for _, n := range names {
		if s := v.getenv(n); s != "" {
			set = append(set, n+"="+s)
		}
	}
	if set == nil {
		return ""
	}
	return " (of torch's variables only these are set: " + strings.Join(set, " ") + ")"
}
