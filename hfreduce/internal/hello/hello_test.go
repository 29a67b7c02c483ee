// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

var secret = []byte("s3cret")

func TestDial(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		for _, key := range [][]byte{nil, secret} {
			for _, token := range [][]byte{{}, []byte("x"), make([]byte, MaxToken)} {
				name := fmt.Sprintf("%s/secret=%d/token=%d", addr, len(key), len(token))
				t.Run(name, func(t *testing.T) {
					l := start(t, ListenOptions{Addr: addr, Identity: Identity{JobID: "job", Secret: key, Rank: 3}})
					h, arrived := collect()
					l.Handle(Data, h)
					conn, answer, err := dial(t, l, Identity{JobID: "job", Secret: key, Rank: 5}, Hello{Purpose: Data, PeerRank: 3, Token: token})
					if err != nil {
						t.Fatal(err)
					}
					if answer.Rank != 3 || answer.PeerRank != 5 || answer.Purpose != Data {
						t.Errorf("the listener answered %+v", answer)
					}
					m := <-arrived
					defer m.conn.Close()
					if m.hello.Rank != 5 || m.hello.PeerRank != 3 || m.hello.Purpose != Data || !bytes.Equal(m.hello.Token, token) {
						t.Errorf("the handler got %+v", m.hello)
					}
					go io.Copy(m.conn, m.conn)
					mustTalk(t, conn)
					if s := l.Stats(); s.Accepted != 1 || s.Total() != 0 {
						t.Errorf("%+v", s)
					}
				})
			}
		}
	}
}

func TestDialRefused(t *testing.T) {
	listener := Identity{JobID: "job", Secret: secret, Rank: 3}
	cases := []struct {
		name     string
		listener Identity
		dialer   Identity
		peer     int
		want     error
		text     string // in the dialer's error
		log      string // in the listener's log
	}{
		{"other job", listener, Identity{JobID: "other", Secret: secret, Rank: 1}, 3, ErrJob, "another hfreduce job", "its HFREDUCE_JOB_ID is another"},
		{"other job, no secrets", Identity{JobID: "job", Secret: nil, Rank: 3}, Identity{JobID: "", Secret: nil, Rank: 1}, 3, ErrJob, "", "a rank of another job"},
		{"wrong secret", listener, Identity{JobID: "job", Secret: []byte("guess"), Rank: 1}, 3, ErrSecret, "secrets differ: give all ranks the same HFREDUCE_SECRET", "a wrong job secret"},
		{"no secret", listener, Identity{JobID: "job", Secret: nil, Rank: 1}, 3, ErrSecret, "set HFREDUCE_SECRET", "a wrong job secret"},
		{"unwanted secret", Identity{JobID: "job", Secret: nil, Rank: 3}, Identity{JobID: "job", Secret: secret, Rank: 1}, 3, ErrSecret, "the listener has none; set HFREDUCE_SECRET or HFREDUCE_SECRET_FILE on all", "a wrong job secret"},
		{"other rank", listener, Identity{JobID: "job", Secret: secret, Rank: 1}, 4, ErrRank, "rank 3, not 4", "rank 1 looked for rank 4 here, this is rank 3"},
		{"handler says no", listener, Identity{JobID: "job", Secret: secret, Rank: 13}, 3, ErrRefused, "refused by rank 3: thirteen is unlucky", "thirteen is unlucky"},
		{"no handler", listener, Identity{JobID: "job", Secret: secret, Rank: 1}, AnyRank, ErrNotReady, "", "nobody takes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log := newLines()
			l := start(t, ListenOptions{Identity: c.listener, Logger: log.logger(), HandlerWait: time.Millisecond})
			if c.want != ErrNotReady {
				l.Handle(Control, Handler{
					Admit: func(h Hello) error {
						if h.Rank == 13 {
							return errors.New("thirteen is unlucky")
						}
						return nil
					},
					Serve: func(Hello, net.Conn) { t.Error("served") },
				})
			}
			_, _, err := dial(t, l, c.dialer, Hello{Purpose: Control, PeerRank: c.peer})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), l.Addr().String()) {
				t.Errorf("the dialer got: %v", err)
			}
			for _, leak := range []string{"s3cret", "job\"", "guess"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("the error gives away %q: %v", leak, err)
				}
			}
			log.await(t, c.log)
			if s := l.Stats(); s.Accepted != 0 || s.Total() != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestDialInvalid(t *testing.T) {
	for _, h := range []Hello{{Purpose: 0}, {Purpose: 77}, {Purpose: Data, PeerRank: -2}, {Purpose: Data, Token: make([]byte, MaxToken+1)}} {
		if _, _, err := Dial(t.Context(), "127.0.0.1:1", Identity{}, h); !errors.Is(err, errMalformed) {
			t.Errorf("Dial(%+.40v): %v", h, err)
		}
	}
	if _, _, err := Dial(t.Context(), "127.0.0.1:1", Identity{Rank: -1}, Hello{Purpose: Data}); !errors.Is(err, errMalformed) {
		t.Errorf("rank -1: %v", err)
	}
}

// A fake listener answers whatever the case says; the dialer must see through it.
func TestDialStrangeListener(t *testing.T) {
	okReply := (&reply{status: statusOK, rank: 3}).encode()
	otherVersion := bytes.Clone(okReply)
	otherVersion[5] = 9
	cases := []struct {
		name    string
		answers [][]byte // one for each of the dialer's messages; then the connection is closed
		want    error
		text    string
	}{
		{"HTTP server", [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, ErrStranger, `it answered "HTTP/1.1"`},
		{"SSH server", [][]byte{[]byte("SSH-")}, ErrStranger, `it answered "SSH-"`},
		{"closes", [][]byte{nil}, io.ErrUnexpectedEOF, "ended during the hello"},
		{"breaks off", [][]byte{okReply[:20]}, io.ErrUnexpectedEOF, ""},
		{"other version", [][]byte{otherVersion}, ErrVersion, "it speaks version 9, this process version 1"},
		{"absurd length", [][]byte{[]byte("HFRD\x00\x01\xff\xff")}, errMalformed, ""},
		{"unknown status", [][]byte{(&reply{status: 99}).encode()}, errMalformed, ""},
		{"does not know the secret", [][]byte{okReply, okReply}, ErrSecret, "the listener does not know this job's"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := dialAnswered(t, c.answers); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

// dialAnswered dials somebody who gives these answers, one to each message, and returns the error.
func dialAnswered(t *testing.T, answers [][]byte) error {
	t.Helper()
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
		for _, a := range answers {
			conn.Read(make([]byte, 8192)) // a message of the dialer is one segment on loopback
			conn.Write(a)
		}
	}()
	_, _, err = Dial(t.Context(), ln.Addr().String(), Identity{JobID: "job", Secret: secret, Rank: 1}, Hello{Purpose: Data, PeerRank: 3})
	<-done
	return err
}

// TestRefusalBeforeTheProof: a handler's refusal comes behind the listener's proof only. Somebody who has proved nothing
// cannot end a dialer's attempts with it, nor put words into its errors.
func TestRefusalBeforeTheProof(t *testing.T) {
	err := dialAnswered(t, [][]byte{(&reply{status: statusRefused, rank: 3, text: "\x1b[2Jwords of a stranger"}).encode()})
	if errors.Is(err, ErrRefused) || !errors.Is(err, errMalformed) || strings.Contains(err.Error(), "stranger") {
		t.Errorf("got: %v", err)
	}
}

func TestDialCancelled(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			defer conn.Close()
			conn.Read(make([]byte, 1)) // the dialer is now within its hello
		}
		cancel(why)
	}()
	begin := time.Now()
	_, _, err = Dial(ctx, ln.Addr().String(), Identity{}, Hello{Purpose: Data})
	if !errors.Is(err, why) || time.Since(begin) > challengeTimeout {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
}

func TestListenPortRange(t *testing.T) {
	first := start(t, ListenOptions{Addr: "127.0.0.1:0"})
	busy := int(first.Addr().Port())
	_, err := NewListener(ListenOptions{Addr: "127.0.0.1:0", PortRange: [2]int{busy, busy}})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "widen HFREDUCE_PORT_RANGE") {
		t.Errorf("a full range: %v", err)
	}
	if _, err := NewListener(ListenOptions{Addr: first.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a busy port: %v", err)
	}
	for _, r := range [][2]int{{0, 5}, {9, 8}, {65535, 65536}, {-1, 1}} {
		if _, err := NewListener(ListenOptions{Addr: ":0", PortRange: r}); err == nil || !strings.Contains(err.Error(), "port range") {
			t.Errorf("range %v: %v", r, err)
		}
	}
	high := min(busy+50, 65535)
	second := start(t, ListenOptions{Addr: "127.0.0.1:0", PortRange: [2]int{busy, high}})
	if p := int(second.Addr().Port()); p <= busy || p > high {
		t.Errorf("range %d-%d gave port %d", busy, high, p)
	}
}

func TestListenerClose(t *testing.T) {
	l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: secret, Rank: 0}})
	h, arrived := collect()
	l.Handle(Data, h)
	conn, _, err := dial(t, l, Identity{JobID: "job", Secret: secret, Rank: 1}, Hello{Purpose: Data, PeerRank: AnyRank})
	if err != nil {
		t.Fatal(err)
	}
	m := <-arrived
	defer m.conn.Close()
	silent := raw(t, l)
	refused := make(chan error)
	go func() { // proves itself, then finds that nobody takes control connections
		_, _, err := Dial(context.Background(), l.Addr().String(), Identity{JobID: "job", Secret: secret, Rank: 2}, Hello{Purpose: Control, PeerRank: 0})
		refused <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := <-refused; err == nil {
		t.Error("the dialer got through a closed listener")
	}
	readAll(t, silent)
	go func() { io.Copy(m.conn, m.conn) }()
	mustTalk(t, conn) // what was handed over stays
}

func TestHandlerComesLater(t *testing.T) {
	l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: secret, Rank: AnyRank}})
	id := Identity{JobID: "job", Secret: secret, Rank: 4}
	conn := raw(t, l)
	r := request{flags: id.flags(), hello: Hello{Purpose: Data, Rank: 4, PeerRank: 0}, nonce: newNonce()}
	r.jobTag = id.jobTag(r.nonce)
	challenge, err := ask(conn, r.encode(), patience)
	if err != nil {
		t.Fatal(err)
	}
	proof := id.dialerProof(r.encode(), challenge.encode(), nil)
	if _, err := conn.Write(proof[:]); err != nil {
		t.Fatal(err)
	}
	l.Handle(Data, echo())
	verdict, err := ask(conn, nil, patience)
	if err != nil || verdict.status != statusOK {
		t.Fatalf("%+v, %v", verdict, err)
	}
	mustTalk(t, conn)
}

func TestSetRank(t *testing.T) {
	l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: nil, Rank: AnyRank}})
	l.Handle(Data, echo())
	if _, answer, err := dial(t, l, Identity{JobID: "job", Secret: nil, Rank: 1}, Hello{Purpose: Data, PeerRank: 7}); err != nil || answer.Rank != AnyRank {
		t.Errorf("before SetRank: %+v, %v", answer, err)
	}
	l.SetRank(6)
	if _, _, err := dial(t, l, Identity{JobID: "job", Secret: nil, Rank: 1}, Hello{Purpose: Data, PeerRank: 7}); !errors.Is(err, ErrRank) {
		t.Errorf("after SetRank: %v", err)
	}
	if _, answer, err := dial(t, l, Identity{JobID: "job", Secret: nil, Rank: 1}, Hello{Purpose: Data, PeerRank: AnyRank}); err != nil || answer.Rank != 6 {
		t.Errorf("any rank: %+v, %v", answer, err)
	}
}
