// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestStrangers(t *testing.T) {
	id := Identity{JobID: "job", Secret: secret, Rank: 1}
	good := request{flags: id.flags(), hello: Hello{Purpose: Data, Rank: 1, PeerRank: 0}, nonce: newNonce()}
	good.jobTag = id.jobTag(good.nonce)
	change := func(at int, to byte) string {
		b := good.encode()
		b[at] = to
		return string(b)
	}
	cases := []struct {
		name, says string
		silent     bool   // does not close its side
		answer     string // begins so
		kind       Kind
		log        string
	}{
		{"HTTP GET", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 400 Bad Request\r\n", KindHTTP, ""},
		{"HTTP POST", "POST / HTTP/1.0\r\n\r\n" + strings.Repeat("x", 1000), true, "HTTP/1.1 400 Bad Request\r\n", KindHTTP, ""},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true, "HTTP/1.1 400 Bad Request\r\n", KindHTTP, ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", true, "HFRD\x00\x01", KindTLS, "does not use TLS"},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", true, "", KindSSH, ""},
		{"bytes", "\x00\x01\x02\x03\x04\x05", true, "", KindBytes, ""},
		{"two bytes", "\x00\x01", false, "", KindBytes, ""},
		{"silent", "", true, "", KindSilent, ""},
		{"port probe", "", false, "", KindProbe, ""},
		{"magic only, then silent", "HFRD", true, "", KindSlow, ""},
		{"half a magic, then closed", "HF", false, "", KindTruncated, ""},
		{"half a hello", string(good.encode()[:40]), false, "", KindTruncated, ""},
		{"half a hello, then silent", string(good.encode()[:40]), true, "", KindSlow, ""},
		{"a hello, no proof", string(good.encode()), false, "HFRD", KindTruncated, ""},
		{"a hello, then silent", string(good.encode()), true, "HFRD", KindSlow, ""},
		{"absurd length", "HFRD\x00\x01\xff\xff", true, "HFRD\x00\x01", KindMalformed, ""},
		{"short hello", "HFRD\x00\x01\x00\x01x", true, "HFRD\x00\x01", KindMalformed, ""},
		{"unknown purpose", change(9, 200), true, "HFRD\x00\x01", KindMalformed, ""},
		{"negative rank", change(10, 0xff), true, "HFRD\x00\x01", KindMalformed, ""},
		{"version 2", change(5, 2), true, "HFRD\x00\x01", KindVersion, "it speaks version 2, this process version 1"},
		{"wrong proof", string(good.encode()) + strings.Repeat("p", sumLength), true, "HFRD\x00\x01", KindSecret, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := newLines()
			l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: secret}, Logger: log.logger(), HelloTimeout: 200 * time.Millisecond})
			conn := raw(t, l)
			io.WriteString(conn, c.says)
			if !c.silent {
				conn.(*net.TCPConn).CloseWrite()
			}
			if got := readAll(t, conn); !strings.HasPrefix(got, c.answer) || c.answer == "" && got != "" {
				t.Errorf("answered %q, want %q", got, c.answer)
			}
			log.await(t, "kind="+string(c.kind))
			log.await(t, c.log)
			l.Close()
			if s := l.Stats(); s.Accepted != 0 || s.Total() != 1 || s.Of(c.kind) != 1 {
				t.Errorf("%+v, want one of kind %s", s, c.kind)
			}
		})
	}
}

func TestStrangersOfOneKindAreLoggedOnce(t *testing.T) {
	log := newLines()
	l := start(t, ListenOptions{Logger: log.logger()})
	for range 5 {
		conn := raw(t, l)
		io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		readAll(t, conn)
	}
	l.Close()
	if n := strings.Count(log.String(), "kind=http"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
	if s := l.Stats(); s.Of(KindHTTP) != 5 || s.Total() != 5 {
		t.Errorf("%+v, want 5 HTTP requests", s)
	}
}

func TestRealHTTPAndTLSClients(t *testing.T) {
	l := start(t, ListenOptions{})
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusBadRequest || string(body) != httpBody {
		t.Errorf("%s, %q, %v", resp.Status, body, err)
	}
	dialer := net.Dialer{Timeout: patience}
	if conn, err := tls.DialWithDialer(&dialer, "tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("a TLS handshake succeeded")
	}
}

// A flood of silent connections closes its own oldest, and a rank still gets in: at once when the flood has been taken
// in, while that is going on perhaps with a later attempt, as ranks make.
func TestPendingIsBounded(t *testing.T) {
	l := start(t, ListenOptions{MaxPending: 8, HelloTimeout: time.Hour})
	l.Handle(Data, echo())
	oldest := raw(t, l)
	silent := make([]net.Conn, 100)
	for i := range silent {
		silent[i] = raw(t, l)
	}
	readAll(t, oldest)
	for attempt := 0; ; attempt++ {
		conn, _, err := dial(t, l, Identity{Rank: 1}, Hello{Purpose: Data, PeerRank: 0})
		if err == nil {
			mustTalk(t, conn)
			return
		}
		if attempt == len(silent) { // each attempt can be the victim of at least one connection of the flood
			t.Fatal(err)
		}
	}
}

// wiretap passes a hello on and records what the dialer sends; alter may change it on the way.
func wiretap(t *testing.T, l *Listener, alter func(fromDialer bool, b []byte)) (addr string, recorded *lines) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	recorded = newLines()
	done := make(chan struct{})
	pipe := func(to, from net.Conn, fromDialer bool) {
		defer to.Close()
		defer from.Close()
		for b := make([]byte, 8192); ; {
			n, err := from.Read(b)
			if fromDialer {
				recorded.Write(b[:n])
			}
			alter(fromDialer, b[:n])
			if _, werr := to.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go func() {
		defer close(done)
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			in.Close()
			return
		}
		back := make(chan struct{})
		go func() { defer close(back); pipe(in, out, false) }()
		pipe(out, in, true)
		<-back
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String(), recorded
}

func TestReplay(t *testing.T) {
	log := newLines()
	id := Identity{JobID: "job", Secret: secret, Rank: 1}
	l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: secret, Rank: 0}, Logger: log.logger()})
	l.Handle(Data, echo())
	addr, recorded := wiretap(t, l, func(bool, []byte) {})
	conn, _, err := Dial(t.Context(), addr, id, Hello{Purpose: Data, PeerRank: 0, Token: []byte("token")})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	replayed := raw(t, l)
	replayed.Write([]byte(recorded.String()[:prefixLength+helloFixed+5+sumLength]))
	readAll(t, replayed)
	log.await(t, "kind=secret")
}

// Nothing that a proof covers can be changed on the way.
func TestTampering(t *testing.T) {
	const h = prefixLength
	cases := []struct {
		name       string
		fromDialer bool
		message    int // of that side
		at         int
	}{
		{"purpose", true, 0, h + 1}, {"rank", true, 0, h + 5}, {"peer rank", true, 0, h + 9}, {"nonce", true, 0, h + 10},
		{"job tag", true, 0, h + 42}, {"token", true, 0, h + helloFixed + 2}, {"proof", true, 1, 7},
		{"listener's rank", false, 0, h + 5}, {"challenge", false, 0, h + 6},
		{"verdict", false, 1, h + 1}, {"listener's proof", false, 1, h + 6},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := start(t, ListenOptions{Identity: Identity{JobID: "job", Secret: secret, Rank: 0}, HandlerWait: time.Millisecond})
			l.Handle(Data, echo())
			l.Handle(Control, echo())
			seen := [2]int{}
			addr, _ := wiretap(t, l, func(fromDialer bool, b []byte) {
				if fromDialer != c.fromDialer || len(b) == 0 {
					return
				}
				if seen[0] == c.message && c.at < len(b) {
					b[c.at] ^= 1
					seen[1]++
				}
				seen[0]++
			})
			conn, _, err := Dial(t.Context(), addr, Identity{JobID: "job", Secret: secret, Rank: 1}, Hello{Purpose: Data, PeerRank: 0, Token: []byte("token")})
			if err == nil {
				conn.Close()
				t.Fatal("the change went unnoticed")
			}
			if errors.Is(err, io.ErrUnexpectedEOF) && c.name != "purpose" {
				t.Errorf("no reason given: %v", err)
			}
		})
	}
}
