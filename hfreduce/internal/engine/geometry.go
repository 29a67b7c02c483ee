// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hfreduce/hfreduce/hfreduce/internal/schedule"
)

const (
	flatSets = 2
	line     = 64   // bytes of a cache line: no two ranks write to one line
	page     = 4096 // data areas start on pages
	notShare = ^uint64(0)
)

// phases are the landing areas of one shard in one slot: the partial sums of two children and the parent's result.
const phases = 3

// Geometry says where everything lies in a node's segment. It follows from the layout and the options, so every rank
// of the node computes the same.
//
//	bells     [local] line      who sleeps and how to wake it (package wait)
//	states    [local] line      which collective a rank began last, and what of it (standing.go)
//	flat      [2][local] line  a rank's input of a small reduction, or what says that it lies in its area
//	done      [local] line      sequence number of the last item that the rank is through with
//	ready     [slot][local] line  a rank's staged input: sequence number, fingerprint, where it lies
//	reduced   [slot][shard] line  sequence number of the item whose result lies in the slot, and whose collective it is
//	inputs    [slot][local] chunk
//	results   [slot][shard] shardMax  partial sums, then results; landing area of the parent's message
//	partials  [slot][shard][2] shardMax  landing areas of the children's messages
//	areas     [2][local] flatMax  inputs of small reductions
//	exchanged [local][2][round][2] exchange.MaxBytes  what a rank sends in a round, and the landing area of its partner's message
//
// and, where ranks have devices:
//
//	poison    line            set once a rank's device may overwrite slots that others still read
//	sends     [local] line    whether a rank may send from the slots: it is in a collective, or its links are open after a fault
//	device    [local][2] line flags between a rank and its device
//	bounces   [local][8][2] flatMax  what a device gives to a small reduction, and takes from it
//
// and, with checksums, which also take four bytes of flat lines:
//
//	sums      [slot][local] shards words, in whole lines: of a rank's staged input, by shard
type Geometry struct {
	local, shards, slots int
	chunk, shardMax      int64
	flatMax              int64
	exchange             schedule.Exchange
	devices, checksums   bool

	bells, states, flat, done, ready, reduced int64
	inputs, results, partials, areas          int64
	exchanged                                 int64
	poison, sends, device, bounces            int64
	sums                                      int64
	bytes                                     int64
}

// NewGeometry returns the geometry of a node with local ranks, in a layout of shards shards, for a ring of slots slots
// that hold items of at most chunk bytes. What takes no pipeline are reductions of at most flat bytes where there is one
// node, and else those of x.
func NewGeometry(local, shards, slots int, chunk, flat int64, x schedule.Exchange) Geometry {
	g := Geometry{local: local, shards: shards, slots: slots, chunk: chunk, shardMax: maxShard(chunk, shards), flatMax: max(flat, x.MaxBytes()), exchange: x}
	next := int64(0)
	take := func(bytes int64) int64 {
		at := next
		next += roundUp(bytes, page)
		return at
	}
	l, s, k := int64(local), int64(shards), int64(slots)
	g.bells = take(l * line)
	g.states = take(l * line)
	g.flat = take(flatSets * l * line)
	g.done = take(l * line)
	g.ready = take(k * l * line)
	g.reduced = take(k * s * line)
	g.inputs = take(k * l * g.chunkStride())
	g.results = take(k * s * g.shardMax)
	g.partials = take(k * s * 2 * g.shardMax)
	g.areas = take(flatSets * l * g.flatStride())
	g.exchanged = take(l * flatSets * int64(x.Rounds()) * 2 * g.exchangeStride())
	g.bytes = next
	return g
}

// WithDevices returns the geometry of a node whose ranks may have devices.
func (g Geometry) WithDevices() Geometry {
	g.devices = true
	g.poison = g.bytes
	g.sends = g.poison + line
	g.device = g.poison + roundUp(int64(1+g.local)*line, page)
	g.bounces = g.device + roundUp(int64(g.local)*2*line, page)
	g.bytes = g.bounces + int64(g.local)*bounceAreas*2*g.flatStride()
	return g
}

// WithChecksums returns the geometry of a node whose ranks compare what they read with the sums of what was written.
func (g Geometry) WithChecksums() Geometry {
	g.checksums = true
	g.sums = g.bytes
	g.bytes += roundUp(int64(g.slots*g.local)*g.sumStride(), page)
	return g
}

// ForDevices reports whether ranks may have devices.
func (g *Geometry) ForDevices() bool { return g.devices }

// Areas returns where the input areas are, and the areas of partial sums and results.
func (g *Geometry) Areas() (inLo, inHi, outLo, outHi int64) {
	return g.inputs, g.results, g.results, g.areas
}

// maxShard returns a bound on the size of a shard of an item of at most chunk bytes: shards differ by at most 64 bytes,
// and an item is cut into as many shards as have MinShardBytes, so that a shard has less than twice that when there are
// fewer than it could be cut into.
func maxShard(chunk int64, shards int) int64 {
	even := (chunk/int64(shards) + 2*line) / line * line
	return min(chunk, max(even, 2*schedule.MinShardBytes))
}

// Bytes returns the size of the segment.
func (g *Geometry) Bytes() int64 { return g.bytes }

// sumStride is what the sums of one input take.
func (g *Geometry) sumStride() int64 { return roundUp(4*int64(g.shards), line) }

func (g *Geometry) flatStride() int64 { return roundUp(g.flatMax, page) }

func (g *Geometry) exchangeStride() int64 { return roundUp(g.exchange.MaxBytes(), page) }

func (g *Geometry) chunkStride() int64 { return roundUp(g.chunk, page) }

// roundUp rounds x >= 0 up to a multiple of unit.
func roundUp(x, unit int64) int64 { return (x + unit - 1) / unit * unit }

// Bell returns the words of a local rank's bell within the segment.
func (g *Geometry) Bell(base []byte, local int) *[2]uint32 {
	return (*[2]uint32)(unsafe.Pointer(&base[g.bells+int64(local)*line]))
}

// readyLine is what a rank tells the others of its node when it has staged its input of an item. seq is written last.
type readyLine struct {
	seq   uint32
	tag   uint32 // fingerprint of the collective
	share uint64 // offset in the rank's arena where the input lies, notShare: in the slot's input area
	scale uint64 // math.Float64bits of the rank's PreMulSum factor
	out   uint64 // offset in the rank's arena where it wants the result, notShare: it copies it from the slot
	_     [32]byte
}

// reducedLine is what the shard's rank tells the others of its node when a result lies in the slot. seq is written last.
type reducedLine struct {
	seq uint32
	tag uint32 // fingerprint of the collective
	sum uint32 // of the result, where there are checksums
	_   [line - 12]byte
}

// flatLine is what a rank gives to a small reduction: the input itself if it fits, else it lies in the rank's area. seq is
// written last.
type flatLine struct {
	seq    uint32
	tag    uint32 // fingerprint of the collective
	scale  uint64 // as in readyLine
	inline [48]byte
}

// memory is a node's segment seen through its geometry.
type memory struct {
	Geometry
	base []byte
}

func (m *memory) stateWord(local int) *uint64 {
	return (*uint64)(unsafe.Pointer(&m.base[m.states+int64(local)*line]))
}

func (m *memory) doneWord(local int) *uint32 {
	return (*uint32)(unsafe.Pointer(&m.base[m.done+int64(local)*line]))
}

func (m *memory) flatLine(seq uint32, local int) *flatLine {
	return (*flatLine)(unsafe.Pointer(&m.base[m.flat+int64(int(seq%flatSets)*m.local+local)*line]))
}

// inlineBytes is the size of the largest input that lies in its flat line. With checksums its sum lies behind it.
func (m *memory) inlineBytes() int {
	if m.checksums {
		return len(flatLine{}.inline) - 4
	}
	return len(flatLine{}.inline)
}

// sum returns the word for the input's sum, where there are checksums.
func (l *flatLine) sum() *uint32 {
	return (*uint32)(unsafe.Pointer(&l.inline[len(l.inline)-4]))
}

func (m *memory) flatArea(seq uint32, local int) []byte {
	at := m.areas + int64(int(seq%flatSets)*m.local+local)*m.flatStride()
	return m.base[at : at+m.flatMax : at+m.flatMax]
}

// exchangeLanding numbers the landing areas of a rank's exchanges, from 0: the same on all ranks.
func (m *memory) exchangeLanding(count uint32, round int) uint32 {
	return count%flatSets*uint32(m.exchange.Rounds()) + uint32(round)
}

// outbound returns what a rank sends in a round; the landing area of its partner's message lies behind it.
func (m *memory) outbound(count uint32, local, round int) []byte {
	return m.exchangeArea(local, int(m.exchangeLanding(count, round)), 0)
}

func (m *memory) exchangeArea(local, landing, side int) []byte {
	areas := flatSets * m.exchange.Rounds()
	at := m.exchanged + int64((local*areas+landing)*2+side)*m.exchangeStride()
	return m.base[at : at+m.exchange.MaxBytes() : at+m.exchange.MaxBytes()]
}

func (m *memory) readyLine(slot, local int) *readyLine {
	return (*readyLine)(unsafe.Pointer(&m.base[m.ready+int64(slot*m.local+local)*line]))
}

func (m *memory) reducedLine(slot, shard int) *reducedLine {
	return (*reducedLine)(unsafe.Pointer(&m.base[m.reduced+int64(slot*m.shards+shard)*line]))
}

// inputSums are the words for the sums of a local rank's staged input, by shard, where there are checksums.
func (m *memory) inputSums(slot, local int) []uint32 {
	at := m.sums + int64(slot*m.local+local)*m.sumStride()
	return unsafe.Slice((*uint32)(unsafe.Pointer(&m.base[at])), m.shards)
}

// inputAt is where a local rank's input area of a slot begins.
func (g *Geometry) inputAt(slot, local int) int64 {
	return g.inputs + int64(slot*g.local+local)*g.chunkStride()
}

// resultAt is where a shard's result area of a slot begins.
func (g *Geometry) resultAt(slot, shard int) int64 {
	return g.results + int64(slot*g.shards+shard)*g.shardMax
}

func (m *memory) input(slot, local int) []byte {
	at := m.inputAt(slot, local)
	return m.base[at : at+m.chunk : at+m.chunk]
}

func (m *memory) result(slot, shard int) []byte {
	at := m.resultAt(slot, shard)
	return m.base[at : at+m.shardMax : at+m.shardMax]
}

func (m *memory) partial(slot, shard int, child Neighbour) []byte {
	at := m.partials + (int64(slot*m.shards+shard)*2+int64(child))*m.shardMax
	return m.base[at : at+m.shardMax : at+m.shardMax]
}

// landing is the number of a landing area, the same on every node: what the neighbour n (as the receiver sees it) sends
// of a shard of the item in a slot.
func (m *memory) landing(slot, shard int, n Neighbour) uint32 {
	return uint32((slot*m.shards+shard)*phases) + uint32(n)
}

// split is landing's inverse.
func (m *memory) split(landing uint32) (slot, shard int, n Neighbour) {
	x := int(landing)
	return x / phases / m.shards, x / phases % m.shards, Neighbour(x % phases)
}

// landings returns the table of landing areas that the links of a local rank are given: those of the pipeline, then those
// of exchanges.
func (m *memory) landings(local int) [][]byte {
	pipeline, exchanges := m.slots*m.shards*phases, flatSets*m.exchange.Rounds()
	t := make([][]byte, pipeline+exchanges)
	for i := range exchanges {
		t[pipeline+i] = m.exchangeArea(local, i, 1)
	}
	for i := range pipeline {
		slot, shard, n := m.split(uint32(i))
		if n == Parent {
			t[i] = m.result(slot, shard)
		} else {
			t[i] = m.partial(slot, shard, n)
		}
	}
	return t
}

// through returns the sequence number of the last item that every rank of the node is through with.
func (m *memory) through() uint32 {
	least := atomic.LoadUint32(m.doneWord(0))
	for i := 1; i < m.local; i++ {
		if d := atomic.LoadUint32(m.doneWord(i)); before(d, least) {
			least = d
		}
	}
	return least
}

// before compares sequence numbers, which wrap.
func before(a, b uint32) bool { return int32(a-b) < 0 }
