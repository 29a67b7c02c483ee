// SPDX-License-Identifier: Apache-2.0

package hello

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// newNonce returns bytes that no hello before had.
func newNonce() (n [sumLength]byte) {
	rand.Read(n[:]) // never fails (crypto/rand)
	return n
}

func sum(key []byte, parts ...[]byte) (out [sumLength]byte) {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// jobTag names the job to somebody who knows its id, and to nobody else.
func (id *Identity) jobTag(nonce [sumLength]byte) [sumLength]byte {
	return sum([]byte(id.JobID), []byte("hfreduce job"), nonce[:])
}

// key is what the proofs are keyed with.
func (id *Identity) key() []byte {
	k := sum(id.Secret, []byte("hfreduce key"), []byte(id.JobID))
	return k[:]
}

// dialerProof shows that the dialer knows job id and secret. hello and challenge are whole messages; binding names the TLS
// connection, nil without.
func (id *Identity) dialerProof(hello, challenge, binding []byte) [sumLength]byte {
	return sum(id.key(), []byte("hfreduce dialer"), hello, challenge, binding)
}

// listenerProof shows the same of the listener and binds its verdict.
func (id *Identity) listenerProof(hello, challenge, binding []byte, s status, text string) [sumLength]byte {
	return sum(id.key(), []byte("hfreduce listener"), hello, challenge, binding, []byte{byte(s)}, []byte(text))
}

// equal compares without telling by its duration where the difference is.
func equal(a, b [sumLength]byte) bool { return hmac.Equal(a[:], b[:]) }

func (id *Identity) flags() byte {
	if len(id.Secret) > 0 {
		return flagSecret
	}
	return 0
}
