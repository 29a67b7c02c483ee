// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce/internal/transport"
	"github.com/hfreduce/hfreduce/rdma"
)

// FuzzOffer plans with whatever a peer may offer: both sides come to the same ways, which are few, or refuse with a reason.
func FuzzOffer(f *testing.F) {
	mine := &offer{Version: offerVersion, QueuePairs: 2, Endpoints: []endpoint{
		{Device: "mlx5_0", Port: 1, LinkLayer: rdma.Ethernet, MTU: 4096, PKey: 0xffff, GIDs: []gid{{Index: 3, Raw: hexGID{10: 0xff, 11: 0xff, 12: 10, 15: 1}, Bits: 120}}},
		{Device: "mlx5_1", Port: 1, LinkLayer: rdma.InfiniBand, LID: 7, MTU: 2048, PKey: 0xffff},
	}}
	for _, o := range []*offer{
		mine, {Version: 2}, {Version: offerVersion, Refuse: "no device"}, {Version: offerVersion},
		{Version: offerVersion, Endpoints: mine.Endpoints[:1], QueuePairs: 1 << 40}, {Version: offerVersion, Endpoints: mine.Endpoints[1:], QueuePairs: -1},
	} {
		b, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		theirs := &offer{}
		if err := json.Unmarshal(b, theirs); err != nil {
			return
		}
		paths, refusal := plan([2]int{3, 5}, [2]*offer{mine, theirs})
		if (refusal == "") != (len(paths) > 0) || len(paths) > MaxQueuePairs {
			t.Fatalf("%d ways, refusal %q", len(paths), refusal)
		}
		again, _ := plan([2]int{3, 5}, [2]*offer{mine, theirs})
		if !reflect.DeepEqual(paths, again) {
			t.Errorf("not the same ways twice: %v, %v", paths, again)
		}
		for _, p := range paths {
			for i, at := range p.gids {
				if at >= len(p.ends[i].GIDs) {
					t.Errorf("way %v has no GID %d", p, at)
				}
			}
			_ = p.String()
		}
	})
}

// FuzzReceiveJSON reads whatever a peer may send while a link is set up.
func FuzzReceiveJSON(f *testing.F) {
	frame := func(length uint32, body string) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, length), body...)
	}
	const good = `{"Inbox":1,"Areas":[{"Addr":4096,"Bytes":8,"Region":0}],"Lanes":[{"QP":1,"PSN":2,"Keys":{"Inbox":3,"Regions":[4]}}]}`
	f.Add(frame(uint32(len(good)), good))
	f.Add(frame(0, ""))
	f.Add(frame(1<<31, "{}"))
	f.Add(frame(3, "{}"))
	f.Add([]byte{1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 && binary.LittleEndian.Uint32(b) > 1<<20 && binary.LittleEndian.Uint32(b) <= maxMessage {
			return // a promise of so much is believed; here it only costs time
		}
		s := &setup{}
		err := receiveJSON(received{Reader: bytes.NewReader(b)}, s)
		if err != nil && !errors.Is(err, transport.ErrProtocol) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%x: %v is neither a protocol error nor the end of the connection", b, err)
		}
	})
}

// received is a connection that is only read.
type received struct {
	net.Conn
	io.Reader
}

func (s received) Read(b []byte) (int, error) { return s.Reader.Read(b) }
