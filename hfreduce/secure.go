// SPDX-License-Identifier: Apache-2.0

package hfreduce

import (
	"cmp"
	"fmt"

	"github.com/hfreduce/hfreduce/hfreduce/internal/hello"
)

// TLSOptions make every TCP connection of the job mutual TLS 1.3, within which the ranks say hello as without. The files are
// PEM. Names in certificates are not checked, since ranks are found by address: whoever holds a certificate of the
// authority is trusted with the job. Give each job, or each group of jobs that trust each other, an authority of its own;
// Options.Secret is checked besides. SECURITY.md shows how to make the files.
type TLSOptions struct {
	// CertFile is this rank's certificate, good for a server and for a client, with its chain.
	CertFile string
	// KeyFile is its private key.
	KeyFile string
	// CAFile has the certificates of the authority that the ranks trust.
	CAFile string
}

// tlsFromEnvironment fills TLS if it is not set.
func (o *Options) tlsFromEnvironment(getenv func(string) string) {
	t := TLSOptions{CertFile: getenv("HFREDUCE_TLS_CERT"), KeyFile: getenv("HFREDUCE_TLS_KEY"), CAFile: getenv("HFREDUCE_TLS_CA")}
	if o.TLS == nil && t != (TLSOptions{}) {
		o.TLS = &t
	}
}

// check lists the files that are missing.
func (t *TLSOptions) check() (errs []error) {
	if t == nil {
		return nil
	}
	for _, f := range []struct{ field, variable, value string }{
		{"CertFile", "HFREDUCE_TLS_CERT", t.CertFile}, {"KeyFile", "HFREDUCE_TLS_KEY", t.KeyFile}, {"CAFile", "HFREDUCE_TLS_CA", t.CAFile},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("option TLS.%s (%s) is missing; TLS needs a certificate, its key and an authority", f.field, f.variable))
		}
	}
	return errs
}

// loadTLS reads the files; nil without TLS.
func (o *Options) loadTLS() (*hello.TLS, error) {
	if o.TLS == nil {
		return nil, nil
	}
	t, err := hello.LoadTLS(o.TLS.CertFile, o.TLS.KeyFile, o.TLS.CAFile)
	if err != nil {
		return nil, invalidf("options: TLS: %w", err)
	}
	if o.Transport == TransportVerbs {
		o.Logger.Warn("payload travels in clear over RDMA; TLS protects the other connections only", "transport", o.Transport)
	}
	return t, nil
}

// defaultTransport chooses no RDMA where the user asked for encryption.
func (o *Options) defaultTransport() {
	o.Transport = cmp.Or(o.Transport, TransportAuto)
	if o.TLS != nil && o.Transport == TransportAuto {
		o.Transport = TransportTCP
	}
}
