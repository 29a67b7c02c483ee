// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/bootstrap"
)

// FuzzOptions resolves whatever environment there may be, a variable a line: it is refused with ErrInvalid, or the options
// are within their bounds.
func FuzzOptions(f *testing.F) {
	f.Add("HFREDUCE_RANK=1\nHFREDUCE_WORLD_SIZE=2\nHFREDUCE_RENDEZVOUS=127.0.0.1:1\nHFREDUCE_CHUNK_BYTES=8192\nHFREDUCE_SLOTS=2\nHFREDUCE_LOG=error")
	f.Add("HFREDUCE_RANK=0\nHFREDUCE_WORLD_SIZE=1\nHFREDUCE_PORT_RANGE=1-65535\nHFREDUCE_CUDA=off\nHFREDUCE_FAULT=drop; kill rank=0")
	f.Add("RANK=0\nWORLD_SIZE=1\nMASTER_ADDR=h\nMASTER_PORT=1\nHFREDUCE_VERBS_MTU=1500\nHFREDUCE_VERBS_DEVICES=a,,b\nHFREDUCE_TIMEOUT=-1s")
	f.Fuzz(func(t *testing.T, text string) {
		values := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			if name, value, found := strings.Cut(line, "="); found && name != "HFREDUCE_SECRET_FILE" { // no files of this machine
				values[name] = value
			}
		}
		var o Options
		found, err := o.resolve(func(name string) string { return values[name] })
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v does not wrap ErrInvalid", values, err)
			}
			return
		}
		if o.WorldSize < 1 || o.Rank >= o.WorldSize || !validSlots(o.pipelineOver(5, 8, false).slots) || !validSlots(o.pipelineOver(5, 8, true).slots) || o.ChunkBytes < minChunkBytes || o.WorldSize > 1 && len(found.Rendezvous) == 0 && found.Meet == nil {
			t.Errorf("%q was accepted as %v, rendezvous %q", values, o, found.Rendezvous)
		}
		if secret := values["HFREDUCE_SECRET"]; len(secret) > 16 && strings.Contains(o.String(), secret) {
			t.Errorf("String shows the secret: %v", o)
		}
	})
}

// FuzzPortRange: what is a range is the same range once it is written out.
func FuzzPortRange(f *testing.F) {
	for _, s := range []string{"", "1-2", " 20000 - 20010 ", "0-5", "9-3", "65535-65536", "-", "1", "1-2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parsePortRange(s)
		switch {
		case err != nil || s == "":
			if r != [2]int{} || err != nil && !strings.Contains(err.Error(), "lo-hi") {
				t.Errorf("%q: got %v, %v", s, r, err)
			}
		case r[0] < 1 || r[0] > r[1] || r[1] > 65535:
			t.Errorf("%q is %v", s, r)
		default:
			if again, err := parsePortRange(fmt.Sprintf("%d-%d", r[0], r[1])); err != nil || again != r {
				t.Errorf("%q is %v, which is %v, %v", s, r, again, err)
			}
		}
	})
}

// FuzzVerdict reads whatever a peer may tell of a fault: it becomes an error that can be tested for.
func FuzzVerdict(f *testing.F) {
	f.Add(verdict{Kind: verdictLost, Rank: 3, Text: "gone"}.encode())
	f.Add(verdict{Kind: noticeWaiting, Rank: 1, Seq: 9, Tag: 7, Text: "Barrier"}.encode())
	f.Add("out of coffee")
	f.Add(`{"Kind":"x","Rank":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		v := decodeVerdict(2, text)
		if v.Kind.sentinel() == nil {
			t.Errorf("%q is no error", text)
		}
		told := decodeVerdict(2, v.encode()) // what is no UTF-8 changes once
		if again := decodeVerdict(2, told.encode()); !reflect.DeepEqual(again, told) {
			t.Errorf("%q is %+v, which is told as %+v", text, told, again)
		}
	})
}

// FuzzChosen reads whatever ranks may give to Split: the ranks of a color come once each, in the order of their keys.
func FuzzChosen(f *testing.F) {
	f.Add([]byte(`{"Color":0,"Key":3}|{"Color":0,"Key":-1}|{"Color":1,"Key":0}`), 0)
	f.Add([]byte(`{"Color":0}||{}`), 0)
	f.Add([]byte(`null|null`), 0)
	f.Fuzz(func(t *testing.T, b []byte, color int) {
		all := bytes.Split(b, []byte{'|'})
		ranks, err := chosen(all, color)
		if err != nil {
			return
		}
		sorted := slices.Sorted(slices.Values(ranks))
		if len(slices.Compact(sorted)) != len(ranks) || len(ranks) > 0 && (sorted[0] < 0 || sorted[len(sorted)-1] >= len(all)) {
			t.Errorf("%q, color %d: ranks %v of %d", b, color, ranks, len(all))
		}
	})
}

// FuzzJudge has the hub judge whatever ranks may report and answer: it makes a verdict of it that fits into a message.
func FuzzJudge(f *testing.F) {
	f.Add(`{"Kind":"timeout","Seq":7,"Call":"Barrier","Accused":-1,"Text":"made no progress"}`, `{"Seq":7,"Inside":true,"Phase":"tree up","Needs":[{"Rank":2,"For":3}]}`, `{}`)
	f.Add(`{"Kind":"mismatch","Seq":7,"Accused":1}`, `{"Seq":7,"Calls":[{"Seq":7,"Tag":1,"Call":"a"}]}`, `{"Seq":7,"Calls":[{"Seq":7,"Tag":2,"Call":"b"}]}`)
	f.Add(`{"Kind":"lost","Accused":2}`, `{"Broken":{"Kind":"aborted","Rank":1,"Text":"enough"}}`, `{"Elsewhere":{"Comm":"B","Needs":[{"Rank":0}]},"Mates":[{"Rank":2,"Seq":9}]}`)
	f.Add(`{"Kind":"corrupt","Suspects":[0,2]}`, `{"Held":true,"Inside":true}`, `{"Device":true,"Inside":true,"GPU":"0000:65:00.0"}`)
	f.Fuzz(func(t *testing.T, r, one, two string) {
		fabric := &processFabric{peers: make([]bootstrap.PeerInfo, 4)}
		k := bootstrap.Case{Members: []int{0, 1, 2, 3}, Reporter: 1, Report: r, Answers: map[int]string{1: one, 2: two}, Lost: map[int]string{}}
		text := fabric.judge(k)
		var v verdict
		if err := json.Unmarshal([]byte(text), &v); err != nil || len(text) > maxMessage {
			t.Errorf("the verdict has %d bytes, %v: %.100s", len(text), err, text)
		}
	})
}
