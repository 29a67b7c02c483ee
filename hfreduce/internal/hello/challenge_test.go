// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// TestRefusalBeforeTheProof: a handler's refusal comes behind the listener's proof only. Somebody who has proved nothing
// cannot end a dialer's attempts with it, nor put words into its errors.
func TestRefusalBeforeTheProof(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.ReadFull(conn, make([]byte, prefixLength+helloFixed))
		conn.Write((&reply{status: statusRefused, rank: 3, text: "\x1b[2Jwords of a stranger"}).encode())
	}()
	_, _, err = Dial(t.Context(), ln.Addr().String(), Identity{JobID: "job", Secret: secret, Rank: 1}, Hello{Purpose: Data, PeerRank: 3})
	<-done
	if errors.Is(err, ErrRefused) || !errors.Is(err, errMalformed) || strings.Contains(err.Error(), "stranger") {
		t.Errorf("got: %v", err)
	}
}
