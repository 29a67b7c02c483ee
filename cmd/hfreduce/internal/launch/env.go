// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/rand"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// job is what all ranks of a job are told.
type job struct {
	ranks, nodes int
	port         int    // MASTER_PORT; we meet at the next one, as after torchrun
	id, secret   string // random
}

// address is where ranks of one machine meet.
const address = "127.0.0.1"

// newJob chooses what distinguishes this job from others on the machine.
func newJob(ranks, nodes int) (job, error) {
	port, err := freePorts()
	if err != nil {
		return job{}, err
	}
	return job{ranks: ranks, nodes: nodes, port: port, id: "local-" + rand.Text(), secret: rand.Text()}, nil
}

// environ returns base with the variables of a rank in place of their namesakes.
func (j job) environ(base []string, p place) []string {
	own := map[string]string{
		"RANK":             strconv.Itoa(p.rank),
		"WORLD_SIZE":       strconv.Itoa(j.ranks),
		"LOCAL_RANK":       strconv.Itoa(p.localRank),
		"LOCAL_WORLD_SIZE": strconv.Itoa(p.localSize),
		"GROUP_RANK":       strconv.Itoa(p.node),
		"MASTER_ADDR":      address,
		"MASTER_PORT":      strconv.Itoa(j.port),

		"HFREDUCE_RENDEZVOUS": net.JoinHostPort(address, strconv.Itoa(j.port+1)),
		"HFREDUCE_JOB_ID":     j.id,
		"HFREDUCE_SECRET":     j.secret,
	}
	if j.nodes > 1 {
		own["HFREDUCE_NODE"] = fmt.Sprintf("node%d", p.node)
	}
	var env []string
	for _, v := range base {
		name, _, _ := strings.Cut(v, "=")
		if _, replaced := own[name]; !replaced && !foreign[name] {
			env = append(env, v)
		}
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	return env
}

// foreign are variables of another launcher's job, which would contradict ours.
var foreign = map[string]bool{
	"HFREDUCE_RANK": true, "HFREDUCE_WORLD_SIZE": true, "HFREDUCE_SECRET_FILE": true,
	"TORCHELASTIC_RUN_ID": true, "TORCHELASTIC_RESTART_COUNT": true,
}

// Ports to choose from. They lie below those that the system hands out by itself (32768 and up by default), so that
// nobody takes one by chance between our look and the rank's use.
const (
	lowPort, highPort = 20000, 32000
	portTries         = 200
)

// freePorts returns the first of two neighbouring ports that nobody listens on: the first is free for the program's own
// use (torch's store), ranks meet at the second.
func freePorts() (int, error) {
	var err error
	for range portTries {
		var b [2]byte
		rand.Read(b[:])
		port := lowPort + (int(b[0])<<8|int(b[1]))%(highPort-lowPort)
		if err = probe(port); err == nil {
			if err = probe(port + 1); err == nil {
				return port, nil
			}
		}
	}
	return 0, fmt.Errorf("launch: no free port between %d and %d on %s after %d tries: %w", lowPort, highPort, address, portTries, err)
}

// probe reports why a port cannot be listened on.
func probe(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}
