// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hfreduce/hfreduce/internal/testcert"
)

// member is an identity with a certificate of an authority.
func member(a *testcert.Authority, rank int) Identity {
	return Identity{JobID: "job", Secret: secret, Rank: rank, TLS: NewTLS(a.Issue(nil), a.Roots())}
}

func TestTLSDial(t *testing.T) {
	a := testcert.NewAuthority(t)
	for _, token := range [][]byte{{}, make([]byte, MaxToken)} {
		l := start(t, ListenOptions{Identity: member(a, 3)})
		h, arrived := collect()
		l.Handle(Data, h)
		conn, answer, err := dial(t, l, member(a, 5), Hello{Purpose: Data, PeerRank: 3, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		m := <-arrived
		defer m.conn.Close()
		if answer.Rank != 3 || m.hello.Rank != 5 || !bytes.Equal(m.hello.Token, token) {
			t.Errorf("answer %+v, handler got %+v", answer, m.hello)
		}
		for _, c := range []net.Conn{conn, m.conn} {
			if s, ok := c.(*Secure); !ok || s.ConnectionState().Version != tls.VersionTLS13 || s.ConnectionState().DidResume {
				t.Errorf("a %T, %+v", c, s)
			}
		}
		go io.Copy(m.conn, m.conn)
		mustTalk(t, conn)
	}
}

// Each case sets up one side wrongly. The dialer's error and the listener's log both say what is wrong.
func TestTLSRefused(t *testing.T) {
	a, other := testcert.NewAuthority(t), testcert.NewAuthority(t)
	good := func(rank int) Identity { return member(a, rank) }
	with := func(rank int, cert tls.Certificate, roots *x509.CertPool) Identity {
		return Identity{JobID: "job", Secret: secret, Rank: rank, TLS: NewTLS(cert, roots)}
	}
	plain := func(rank int) Identity { return Identity{JobID: "job", Secret: secret, Rank: rank} }
	only := func(use x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{use} }
	}
	cases := []struct {
		name             string
		listener, dialer Identity
		want             error
		text             string
		kind             Kind
		log              string
	}{
		{"dialer without TLS", good(3), plain(1), ErrTLS, "the listener does, this process does not; set HFREDUCE_TLS_CERT", KindClear, "set HFREDUCE_TLS_CERT"},
		{"listener without TLS", plain(3), good(1), ErrTLS, "this process does, the listener does not; set HFREDUCE_TLS_CERT", KindTLS, "set HFREDUCE_TLS_CERT"},
		{"dialer of another authority", good(3), with(1, other.Issue(nil), a.Roots()), ErrCertificate, "HFREDUCE_TLS_CA", KindCertificate, "unknown authority"},
		{"listener of another authority", with(3, other.Issue(nil), a.Roots()), good(1), ErrCertificate, "unknown authority", KindCertificate, "bad certificate"},
		{"dialer expired", good(3), with(1, a.Issue(testcert.Expired), a.Roots()), ErrCertificate, "does not take this process's", KindCertificate, "expired"},
		{"listener expired", with(3, a.Issue(testcert.Expired), a.Roots()), good(1), ErrCertificate, "expired", KindCertificate, "bad certificate"},
		{"dialer's is for servers", good(3), with(1, a.Issue(only(x509.ExtKeyUsageServerAuth)), a.Roots()), ErrCertificate, "", KindCertificate, "incompatible key usage"},
		{"listener's is for clients", with(3, a.Issue(only(x509.ExtKeyUsageClientAuth)), a.Roots()), good(1), ErrCertificate, "incompatible key usage", KindCertificate, ""},
		{"no certificate", good(3), with(1, tls.Certificate{}, a.Roots()), ErrCertificate, "", KindCertificate, "it has no certificate"},
		{"wrong secret in TLS", good(3), Identity{JobID: "job", Secret: []byte("guess"), Rank: 1, TLS: good(1).TLS}, ErrSecret, "", KindSecret, ""},
		{"another job in TLS", good(3), Identity{JobID: "other", Rank: 1, TLS: good(1).TLS}, ErrJob, "", KindJob, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log := newLines()
			l := start(t, ListenOptions{Identity: c.listener, Logger: log.logger()})
			l.Handle(Data, Handler{Serve: func(Hello, net.Conn) { t.Error("served") }})
			_, _, err := dial(t, l, c.dialer, Hello{Purpose: Data, PeerRank: 3})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), l.Addr().String()) {
				t.Errorf("the dialer got: %v", err)
			}
			log.await(t, "kind="+string(c.kind))
			log.await(t, c.log)
			l.Close()
			if s := l.Stats(); s.Accepted != 0 || s.Total() != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A port with TLS tells strangers apart as one without does.
func TestStrangersAtTLS(t *testing.T) {
	a := testcert.NewAuthority(t)
	const timeout = 300 * time.Millisecond
	client := tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{a.Issue(nil)}}
	within := func(says string) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Client(c, &client)
			io.WriteString(s, says)
			answer, _ := io.ReadAll(s)
			if isHTTP([]byte(says)) && !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
				panic(fmt.Sprintf("answered %q", answer)) // the test's own goroutine
			}
		}
	}
	say := func(says string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, says) } }
	for _, c := range []struct {
		name   string
		act    func(net.Conn)
		answer string
		kind   Kind
	}{
		{"HTTP in clear", say("GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 400", KindHTTP},
		{"HTTP in TLS", within("GET / HTTP/1.1\r\n\r\n"), "", KindHTTP},
		{"SSH", say("SSH-2.0-x\r\n"), "", KindSSH},
		{"bytes", say("\x00\x01\x02\x03\x04"), "", KindBytes},
		{"bytes in TLS", within("\x00\x01\x02\x03\x04"), "", KindBytes},
		{"silent", say(""), "", KindSilent},
		{"silent in TLS", within(""), "", KindSilent},
		{"half a handshake", say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "", KindSlow},
		{"TLS nonsense", say("\x16\x03\x01\x00\x05hello"), "\x15\x03", KindTLS},
		{"no certificate", func(c net.Conn) {
			s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			s.Handshake()
			io.Copy(io.Discard, s)
		}, "", KindCertificate},
		{"old TLS", func(c net.Conn) {
			tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
		}, "", KindTLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := newLines()
			l := start(t, ListenOptions{Identity: member(a, 0), Logger: log.logger(), HelloTimeout: timeout})
			conn := raw(t, l)
			c.act(conn)
			if got := readAll(t, conn); !strings.HasPrefix(got, c.answer) {
				t.Errorf("answered %q, want %q", got, c.answer)
			}
			log.await(t, "kind="+string(c.kind))
			l.Close()
			if s := l.Stats(); s.Total() != 1 || s.Of(c.kind) != 1 {
				t.Errorf("%+v, want one of kind %s", s, c.kind)
			}
		})
	}
}

// Somebody with a certificate of the authority, but without the secret, takes a hello in at one side and passes it on at the
// other: the proofs are bound to the connections and do not fit.
func TestTLSMan(t *testing.T) {
	a := testcert.NewAuthority(t)
	log := newLines()
	l := start(t, ListenOptions{Identity: member(a, 0), Logger: log.logger()})
	l.Handle(Data, echo())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	middle := NewTLS(a.Issue(nil), a.Roots())
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, err := ln.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return
		}
		defer out.Close()
		near, far := tls.Server(in, middle.listen), tls.Client(out, middle.dial)
		back := make(chan struct{})
		go func() { defer close(back); io.Copy(near, far); in.Close() }()
		io.Copy(far, near)
		out.Close()
		<-back
	}()
	_, _, err = Dial(t.Context(), ln.Addr().String(), member(a, 1), Hello{Purpose: Data, PeerRank: 0})
	if !errors.Is(err, ErrSecret) {
		t.Errorf("got %v", err)
	}
	log.await(t, "kind=secret")
	<-done
}

func TestLoadTLS(t *testing.T) {
	a, other := testcert.NewAuthority(t), testcert.NewAuthority(t)
	cert, key, ca := a.Files(nil)
	if _, err := LoadTLS(cert, key, ca); err != nil {
		t.Error(err)
	}
	expired, expiredKey, _ := a.Files(testcert.Expired)
	server, serverKey, _ := a.Files(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	_, otherKey, otherCA := other.Files(nil)
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxPEM+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cert, key, ca string
		want                []string
	}{
		{"missing", "/nonexistent.pem", key, ca, []string{"/nonexistent.pem", "no such file"}},
		{"folder", cert, key, t.TempDir(), []string{"not a regular file"}},
		{"too big", cert, key, big, []string{big, "at most"}},
		{"key of another", cert, otherKey, ca, []string{otherKey, "does not match"}},
		{"no certificate", key, key, ca, []string{key}},
		{"no authority", cert, key, key, []string{key, "no certificate of an authority"}},
		{"other authority", cert, key, otherCA, []string{otherCA, "does not vouch for", "unknown authority"}},
		{"expired", expired, expiredKey, ca, []string{expired, "expired"}},
		{"only for servers", server, serverKey, ca, []string{server, "as a client, and a rank is both"}},
	} {
		_, err := LoadTLS(c.cert, c.key, c.ca)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", c.name, err, want)
			}
		}
	}
}

// Close of a connection whose peer does not read, and so has no room for a last message, does not wait.
func TestTLSCloseDoesNotWait(t *testing.T) {
	a := testcert.NewAuthority(t)
	l := start(t, ListenOptions{Identity: member(a, 0)})
	h, arrived := collect()
	l.Handle(Data, h)
	conn, _, err := dial(t, l, member(a, 1), Hello{Purpose: Data, PeerRank: 0})
	if err != nil {
		t.Fatal(err)
	}
	m := <-arrived
	defer m.conn.Close()
	written := make(chan error, 1)
	go func() {
		for b := make([]byte, 1<<20); ; {
			if _, err := conn.Write(b); err != nil {
				written <- err
				return
			}
		}
	}()
	m.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(m.conn, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	conn.Close()
	if <-written == nil || time.Since(begin) > 4*time.Second { // TLS would wait for 5 s
		t.Errorf("closed after %v", time.Since(begin))
	}
}
