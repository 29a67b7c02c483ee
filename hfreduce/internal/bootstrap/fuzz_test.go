// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hfreduce/hfreduce/internal/cpus"
)

func drawAddrs(t *rapid.T) (addrs []netip.AddrPort) {
	for range rapid.IntRange(0, 5).Draw(t, "addresses") {
		ip := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")
		a, _ := netip.AddrFromSlice(ip[:rapid.SampledFrom([]int{4, 16}).Draw(t, "family")])
		addrs = append(addrs, netip.AddrPortFrom(a, rapid.Uint16().Draw(t, "port")))
	}
	return addrs
}

func drawSeat(t *rapid.T) Seat {
	return Seat{
		Machine: rapid.StringN(0, -1, maxName).Draw(t, "machine"), Process: rapid.Uint64().Draw(t, "process"),
		CPUs: cpus.Of(rapid.SliceOfN(rapid.IntRange(0, 8*maxCPUs-1), 0, 5).Draw(t, "cpus")...),
	}
}

func TestArrivalAndTableRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, -1, maxName)
		a := arrival{worldSize: rapid.IntRange(0, maxWorldSize).Draw(t, "size"), host: name.Draw(t, "host"),
			pid: rapid.IntRange(0, 1<<31-1).Draw(t, "pid"), hostID: name.Draw(t, "id"), node: name.Draw(t, "node"), seat: drawSeat(t), addrs: drawAddrs(t)}
		if got, err := parseArrival(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v came back as %+v, %v", a, got, err)
		}
		peers := make([]PeerInfo, rapid.IntRange(0, 4).Draw(t, "n"))
		for i := range peers {
			peers[i] = PeerInfo{i, name.Draw(t, "host"), rapid.IntRange(0, 1<<31-1).Draw(t, "pid"), name.Draw(t, "id"), drawSeat(t), drawAddrs(t)}
		}
		got, err := parseTable(tableFrame(peers)[frameHead:], len(peers))
		if err != nil || !reflect.DeepEqual(got, peers) {
			t.Fatalf("%+v came back as %+v, %v", peers, got, err)
		}
	})
}

// The largest arrival that can be made fits a hello's token.
func TestArrivalFits(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 10*maxName))
	a := arrival{host: long, hostID: long, node: long, seat: Seat{Machine: long, CPUs: cpus.Of(8*maxCPUs - 1)}}
	for range 10 * maxAddrs {
		a.addrs = append(a.addrs, netip.MustParseAddrPort("[2001:db8::1]:4711"))
	}
	token := a.encode()
	if got, err := parseArrival(token); err != nil || len(got.addrs) != maxAddrs || len(token) > 4096 {
		t.Errorf("%d bytes, %d addresses, %v", len(token), len(got.addrs), err)
	}
}

func FuzzParseArrival(f *testing.F) {
	a := arrival{worldSize: 4, host: "h", pid: 7, hostID: "id", node: "n", addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5")}}
	f.Add(a.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, token []byte) {
		if a, err := parseArrival(token); err == nil && len(a.addrs) <= maxAddrs && !bytes.Equal(a.encode(), token) {
			t.Errorf("%x came back as %x", token, a.encode())
		}
	})
}

func FuzzParseClaim(f *testing.F) {
	f.Add((&claim{host: "h", pid: 7}).encode())
	f.Add((&claim{"h", 7, sighting{3, "its process has ended"}}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, token []byte) {
		if c, err := parseClaim(token); err == nil && !bytes.Equal(c.encode(), token) {
			t.Errorf("%x came back as %x", token, c.encode())
		}
	})
}

// FuzzControl feeds whatever a member or a hub might send into the readers of both sides.
func FuzzControl(f *testing.F) {
	for _, seed := range [][]byte{
		exchangeFrame("k", []int{0, 1}, []byte("part")), resultFrame("k", nil, [][]byte{{1}, nil}),
		resultFrame("k", failuref(codeLost, "lost"), nil), abortFrame(kindAbort, 3, "scope", "text"), abortFrame(kindLost, 3, "", "text"),
		abortFrame(kindGone, 3, "", "text"), abortFrame(kindVerdict, 3, "scope", "text"),
		reportFrame(&Case{Scope: "scope", Reporter: 1, Members: []int{0, 1}, Report: "text"}),
		inquiryFrame(7, &Case{Scope: "scope", Reporter: 1, Members: []int{0, 1}, Report: "text"}), answerFrame(7, "text"),
		rollCallFrame("k", []int{0, 1}, time.Second, []byte("part")), keyFrame(kindWithdraw, "k"), keyFrame(kindOverdue, "k"), rollFrame("k", failuref(codeLost, "lost"), nil),
		rollFrame("k", nil, &roll{epoch: 3, members: []int{0, 1}, parts: map[int][]byte{0: {1}, 1: {}}}),
		failedFrame(failuref(codeTimeout, "late")), waitingFrame("waiting for rank 1"), newFrame(kindGoodbye, nil),
		tableFrame([]PeerInfo{{Rank: 0, Host: "h", Addrs: []netip.AddrPort{netip.MustParseAddrPort("[::1]:5")}}}),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		for {
			k, body, err := readFrame(in, maxDownFrame)
			if err != nil {
				return
			}
			parseAs(t, k, body)
		}
	})
}

// parseAs parses a message of one kind and checks that it is what it says.
func parseAs(t *testing.T, k kind, body []byte) {
	again := []byte(nil)
	switch k {
	case kindExchange:
		if key, members, part, err := parseExchange(body); err == nil {
			again = exchangeFrame(key, members, part)
			if err := checkMembers(0, 4, members); err == nil {
				x := newExchanges()
				x.contribute(0, key, members, part, func(int) *failure { return nil })
			}
		}
	case kindResult:
		if key, f, blobs, err := parseResult(body); err == nil && f != nil {
			again = resultFrame(key, f, blobs)
		}
	case kindReport:
		if c, err := parseReport(body); err == nil {
			again = reportFrame(&c)
			if checkMembers(0, 4, c.Members) == nil && checkMembers(c.Reporter, 4, c.Members) == nil {
				newCases(func(c Case) string { return c.Report }).report(c, func(int) *failure { return nil })
			}
		}
	case kindInquiry:
		if id, c, err := parseInquiry(body); err == nil {
			again = inquiryFrame(id, &c)
		}
	case kindAnswer:
		if id, text, err := parseAnswer(body); err == nil {
			again = answerFrame(id, text)
		}
	case kindRollCall:
		if key, members, patience, part, err := parseRollCall(body); err == nil {
			again = rollCallFrame(key, members, patience, part)
			if checkMembers(0, 4, members) == nil {
				newRolls(0).come(0, key, members, part, func(int) *failure { return nil })
			}
		}
	case kindWithdraw, kindOverdue:
		if key, err := parseKey(body); err == nil {
			again = keyFrame(k, key)
		}
	case kindRoll:
		key, f, r, err := parseRoll(body)
		if err != nil || f == nil || len(slices.Compact(slices.Sorted(slices.Values(r.Ranks)))) < len(r.Ranks) {
			break // without a failure a text is not kept, and no hub lists a rank twice
		}
		told := &roll{epoch: r.Epoch, members: r.Ranks, parts: map[int][]byte{}}
		for i, rank := range r.Ranks {
			told.parts[rank] = r.Parts[i]
		}
		again = rollFrame(key, f, told)
	case kindAbort, kindLost, kindGone, kindVerdict:
		if rank, scope, text, err := parseAbort(body); err == nil {
			again = abortFrame(k, rank, scope, text)
		}
	case kindFailed:
		if f, err := parseFailed(body); err == nil {
			again = failedFrame(f)
		}
	case kindTable:
		if peers, err := parseTable(body, 1); err == nil {
			again = tableFrame(peers)
		}
	}
	if again != nil && !bytes.Equal(again[frameHead:], body) {
		t.Errorf("kind %d: %x came back as %x", k, body, again[frameHead:])
	}
}
