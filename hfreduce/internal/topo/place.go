// SPDX-License-Identifier: Apache-2.0

package topo

import (
	"fmt"
	"strings"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

// Placement is where the memory and the threads of a rank belong.
type Placement struct {
	Stage  []int    // nodes over which the slots that GPUs copy to are interleaved; nil: leave it to the system
	Result int      // node of results and receive slots; -1: leave it to the system
	CPUs   cpus.Set // processors for the thread that moves the data, within what is allowed; empty: leave them
	Why    string   // reasons, for people
}

// Place decides where the memory and the threads of a rank belong that has the GPU at a PCI address and uses an RDMA
// device; each is empty if there is none. allowed are the processors that the rank may use.
//
// What GPUs write is interleaved over the nodes, for bandwidth; results and what is received lie on the NIC's node, for
// latency, and without a NIC on the GPU's; the thread runs on the GPU's node, or on the NIC's if the GPU's is not known.
//
// A node with memory and no processors is not interleaved over: it is a GPU's own memory or memory behind CXL. Nodes that
// lack what they are chosen for are replaced by the nearest that has it.
func Place(m *Machine, gpu, nic string, allowed cpus.Set) Placement {
	p := Placement{Result: Unknown}
	if len(m.nodes) == 1 {
		p.Why = "the machine has one NUMA node"
		return p
	}
	var why []string
	say := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	gpuAt, nicAt := m.NodeOfPCI(gpu), m.NodeOfRDMA(nic)
	home := m.homes()
	switch {
	case len(home) < 2:
		say("fewer than two nodes have memory and processors: memory is left alone")
	default:
		if gpu == "" {
			say("no GPU copies to slots")
		} else {
			p.Stage = home
			say("GPUs copy to nodes %v in turn", home)
		}
		p.Result = m.resultNode(gpuAt, nicAt, say)
	}
	p.CPUs = m.threadCPUs(gpuAt, nicAt, allowed, say)
	p.Why = strings.Join(why, "; ")
	return p
}

func isHome(n node) bool { return n.memory && n.cpus != "" }

// homes returns the nodes with memory and processors.
func (m *Machine) homes() (numbers []int) {
	for _, n := range m.nodes {
		if isHome(n) {
			numbers = append(numbers, n.number)
		}
	}
	return numbers
}

// resultNode picks the node of results and receive slots.
func (m *Machine) resultNode(gpuAt, nicAt int, say func(string, ...any)) int {
	at, whose := nicAt, "the NIC's"
	if at == Unknown {
		at, whose = gpuAt, "the GPU's"
	}
	if at == Unknown {
		say("the nodes of GPU and NIC are not known: results are left alone")
		return Unknown
	}
	near, _ := m.nearest(at, isHome) // there are two
	if near != at {
		whose = fmt.Sprintf("near node %d, which is %s", at, whose)
	}
	say("results lie on node %d, %s", near, whose)
	return near
}

// threadCPUs picks the processors of the thread.
func (m *Machine) threadCPUs(gpuAt, nicAt int, allowed cpus.Set, say func(string, ...any)) cpus.Set {
	at, whose := gpuAt, "the GPU's"
	if at == Unknown {
		at, whose = nicAt, "the NIC's"
	}
	if at == Unknown {
		say("the nodes of GPU and NIC are not known: threads are left alone")
		return ""
	}
	near, found := m.nearest(at, func(n node) bool { return n.cpus != "" })
	if !found {
		say("no node tells its processors: threads are left alone")
		return ""
	}
	if near != at {
		whose = fmt.Sprintf("near node %d, which is %s", at, whose)
	}
	set := m.CPUs(near).Intersection(allowed)
	if set == "" {
		say("this rank may use processors %v, none of node %d, %s, which has %v: threads are left alone", allowed, near, whose, m.CPUs(near))
		return ""
	}
	say("threads run on processors %v of node %d, %s", set, near, whose)
	return set
}
