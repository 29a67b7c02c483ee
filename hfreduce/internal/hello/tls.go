// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// TLS is what a rank needs for mutual TLS 1.3: its certificate and the authority whose certificates it takes. Names in
// certificates are not looked at, because ranks are found by address: whoever holds a certificate of the authority is
// trusted with the job.
type TLS struct {
	listen, dial *tls.Config // both verify by VerifyConnection, which TLS calls in every handshake
}

// maxPEM bounds a file of certificates or a key, in bytes.
const maxPEM = 1 << 20

// LoadTLS reads a certificate with its chain, its key, and the authority's certificates, all PEM files. It also finds out
// whether the authority vouches for the certificate, as the other ranks will.
func LoadTLS(certFile, keyFile, caFile string) (*TLS, error) {
	pem := map[string][]byte{certFile: nil, keyFile: nil, caFile: nil}
	for name := range pem {
		b, err := readPEM(name)
		if err != nil {
			return nil, fmt.Errorf("hello: %w", err)
		}
		pem[name] = b
	}
	cert, err := tls.X509KeyPair(pem[certFile], pem[keyFile])
	if err != nil {
		return nil, fmt.Errorf("hello: certificate %s with key %s: %w", certFile, keyFile, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem[caFile]) {
		return nil, fmt.Errorf("hello: %s has no certificate of an authority (PEM)", caFile)
	}
	for use, role := range map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "a server", x509.ExtKeyUsageClientAuth: "a client"} {
		if err := vouched(roots, cert.Leaf, intermediates(cert.Certificate), use); err != nil {
			return nil, fmt.Errorf("hello: the authority of %s does not vouch for %s as %s, and a rank is both: %w", caFile, certFile, role, err)
		}
	}
	return NewTLS(cert, roots), nil
}

// readPEM reads a regular file of bounded length.
func readPEM(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", name, maxPEM)
	}
	return os.ReadFile(name)
}

// intermediates parses what follows the leaf of a chain. What cannot be parsed cannot vouch.
func intermediates(chain [][]byte) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range chain[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}

func vouched(roots *x509.CertPool, leaf *x509.Certificate, between *x509.CertPool, use x509.ExtKeyUsage) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// verifier checks the other side's certificate instead of package tls, which would want a name of the listener's, and words
// the lack of a dialer's as it likes.
func verifier(roots *x509.CertPool, use x509.ExtKeyUsage) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return &tls.CertificateVerificationError{Err: errors.New("it has no certificate")}
		}
		between := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			between.AddCert(c)
		}
		if err := vouched(roots, cs.PeerCertificates[0], between, use); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		}
		return nil
	}
}

// protocol is what TLS is told that it carries: a listener that offers others only refuses early. The hello inside decides.
const protocol = "hfreduce"

// NewTLS is LoadTLS with what the files hold, unchecked.
func NewTLS(cert tls.Certificate, roots *x509.CertPool) *TLS {
	common := tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, Certificates: []tls.Certificate{cert},
		SessionTicketsDisabled:      true, // a resumed session would not look at certificates
		DynamicRecordSizingDisabled: true, // it is for browsers, and costs five times the records on a link's first bytes
	}
	listen, dial := common.Clone(), common.Clone()
	listen.ClientAuth, listen.VerifyConnection = tls.RequestClientCert, verifier(roots, x509.ExtKeyUsageClientAuth)
	dial.InsecureSkipVerify, dial.VerifyConnection = true, verifier(roots, x509.ExtKeyUsageServerAuth)
	// The certificate is sent also to a listener of another authority: its refusal says why, and "no certificate" would not.
	dial.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return &TLS{listen: listen, dial: dial}
}

// Secure is a connection over TLS. Its Close sends no last message, and so never waits: all that use it have goodbyes of
// their own.
type Secure struct {
	*tls.Conn
	lower *lower
}

// lower is the connection under TLS, behind bytes that were read before TLS began.
type lower struct {
	net.Conn
	early []byte
}

func (c *lower) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// NetConn returns the connection under TLS.
func (s *Secure) NetConn() net.Conn { return s.lower.Conn }

// Swap puts another connection under TLS and returns the old one. Nobody may be reading or writing meanwhile.
func (s *Secure) Swap(c net.Conn) (old net.Conn) {
	old, s.lower.Conn = s.lower.Conn, c
	return old
}

// Close ends the connection at once.
func (s *Secure) Close() error { return s.lower.Close() }

// CloseWrite ends the direction to the peer, for TLS and for what is under it.
func (s *Secure) CloseWrite() error {
	err := s.Conn.CloseWrite()
	if c, ok := s.lower.Conn.(*net.TCPConn); ok {
		err = errors.Join(err, c.CloseWrite())
	}
	return err
}

// TCP returns the TCP connection under conn: the one under TLS, or conn itself.
func TCP(conn net.Conn) net.Conn {
	if s, ok := conn.(*Secure); ok {
		return s.NetConn()
	}
	return conn
}

// exporter names the key that binds a hello to the TLS connection that it is said in.
const exporter = "EXPORTER-hfreduce-hello"

// secure runs the handshake on conn, whose deadline bounds it; early are bytes that were read from it before. binding is
// equal on both sides, and on no other connection: with it in the proofs, nobody who has a certificate but not the secret
// can pass a hello on and stay in the middle.
func secure(conn net.Conn, early []byte, side func(net.Conn, *tls.Config) *tls.Conn, config *tls.Config) (s *Secure, binding []byte, err error) {
	l := &lower{Conn: conn, early: early}
	s = &Secure{Conn: side(l, config), lower: l}
	if err := s.Handshake(); err != nil {
		return nil, nil, err
	}
	cs := s.ConnectionState()
	binding, err = cs.ExportKeyingMaterial(exporter, nil, sumLength)
	return s, binding, err
}

// admission secures a caller's connection, whose first bytes are head.
func (c *caller) admission(head []byte) error {
	s, binding, err := secure(c.conn, head, tls.Server, c.l.opts.Identity.TLS.listen)
	var unverified *tls.CertificateVerificationError
	switch {
	case err == nil:
		c.conn, c.binding = s, binding
		return nil
	case errors.As(err, &unverified):
		return &stranger{KindCertificate, fmt.Errorf("%w; all ranks need certificates of one authority (HFREDUCE_TLS_CA)", err)}
	case errors.Is(err, os.ErrDeadlineExceeded), ended(err):
		return brokenOff(err)
	case remote(err):
		return &stranger{KindCertificate, fmt.Errorf("it does not take this rank's: %w; all ranks need certificates of one "+
			"authority (HFREDUCE_TLS_CA)", err)}
	}
	return &stranger{KindTLS, err}
}

// ended reports whether an error is the end of the connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// remote reports whether the other side has ended TLS with an alert.
func remote(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// request secures a connection to a listener.
func (t *TLS) request(conn net.Conn) (*Secure, []byte, error) {
	if err := conn.SetDeadline(time.Now().Add(challengeTimeout)); err != nil {
		return nil, nil, err
	}
	s, binding, err := secure(conn, nil, tls.Client, t.dial)
	return s, binding, explainTLS(err)
}

// explainTLS says of an error of TLS, on the dialer's side, what it means for a job. In TLS 1.3 the listener looks at the
// dialer's certificate when that has ended its handshake, so its refusal comes as the answer to the hello.
func explainTLS(err error) error {
	var record tls.RecordHeaderError
	var unverified *tls.CertificateVerificationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &record) && string(record.RecordHeader[:len(magic)]) == magic:
		return fmt.Errorf("%w: this process does, the listener does not; set HFREDUCE_TLS_CERT, HFREDUCE_TLS_KEY and "+
			"HFREDUCE_TLS_CA on all ranks or on none", ErrTLS)
	case errors.As(err, &record):
		return fmt.Errorf("%w: it answered %q to TLS", ErrStranger, record.RecordHeader[:])
	case errors.As(err, &unverified):
		return fmt.Errorf("%w: the listener's: %w; all ranks need certificates of one authority (HFREDUCE_TLS_CA)", ErrCertificate, err)
	case remote(err):
		return fmt.Errorf("%w: the listener does not take this process's: %w; all ranks need valid certificates of one "+
			"authority (HFREDUCE_TLS_CERT, HFREDUCE_TLS_CA)", ErrCertificate, err)
	case ended(err):
		return fmt.Errorf("%w during the TLS handshake: %w", ErrCut, err)
	}
	return fmt.Errorf("TLS handshake: %w", err)
}
