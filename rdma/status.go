// SPDX-License-Identifier: Apache-2.0

package rdma

import "fmt"

// WCStatus is how a work request ended, enum ibv_wc_status. All but StatusSuccess bring the QP into ERR.
type WCStatus uint32

// The statuses.
const (
	StatusSuccess               WCStatus = iota
	StatusLocalLength                    // the message is longer than the receive, or than the device can send
	StatusLocalQP                        // the QP is broken, or the port or route is down
	StatusLocalEEC                       // not of RC
	StatusLocalProtection                // an LKey does not fit the address
	StatusFlushed                        // the QP was or came into ERR; the first failure is another completion
	StatusMemoryWindow                   // binding a memory window
	StatusBadResponse                    // the peer's device answered nonsense
	StatusLocalAccess                    // writing a peer's message to memory failed
	StatusRemoteInvalidRequest           // the peer's device refused: too long, or not allowed by its QP
	StatusRemoteAccess                   // an RKey does not fit the remote address or the access
	StatusRemoteOperation                // the peer's device could not carry it out
	StatusRetryExceeded                  // the peer did not answer Path.Retry times: it, or the way to it, is down
	StatusRNRRetryExceeded               // the peer had no receive posted Path.RNRRetry times
	StatusLocalRDDViolation              // not of RC
	StatusRemoteInvalidRead              // not of RC
	StatusRemoteAborted                  // the peer aborted it
	StatusInvalidEECNumber               // not of RC
	StatusInvalidEECState                // not of RC
	StatusFatal                          // the device is broken
	StatusResponseTimeout                // not of RC
	StatusGeneral                        // none of these
	StatusTagMatching                    // of tag matching
	StatusTagMatchingIncomplete          // of tag matching
)

// String returns the status in words and by its name in C, e.g. "transport retry counter exceeded (IBV_WC_RETRY_EXC_ERR)".
func (s WCStatus) String() string {
	texts := [...][2]string{
		{"success", "SUCCESS"}, {"local length error", "LOC_LEN_ERR"}, {"local QP operation error", "LOC_QP_OP_ERR"},
		{"local EE context operation error", "LOC_EEC_OP_ERR"}, {"local protection error", "LOC_PROT_ERR"},
		{"work request flushed", "WR_FLUSH_ERR"}, {"memory window bind error", "MW_BIND_ERR"}, {"bad response", "BAD_RESP_ERR"},
		{"local access error", "LOC_ACCESS_ERR"}, {"remote invalid request", "REM_INV_REQ_ERR"}, {"remote access error", "REM_ACCESS_ERR"},
		{"remote operation error", "REM_OP_ERR"}, {"transport retry counter exceeded", "RETRY_EXC_ERR"},
		{"receiver-not-ready retry counter exceeded", "RNR_RETRY_EXC_ERR"}, {"local RDD violation", "LOC_RDD_VIOL_ERR"},
		{"remote invalid RD request", "REM_INV_RD_REQ_ERR"}, {"remote aborted", "REM_ABORT_ERR"},
		{"invalid EE context number", "INV_EECN_ERR"}, {"invalid EE context state", "INV_EEC_STATE_ERR"}, {"fatal error", "FATAL_ERR"},
		{"response timeout", "RESP_TIMEOUT_ERR"}, {"general error", "GENERAL_ERR"}, {"tag matching error", "TM_ERR"},
		{"tag matching rendezvous incomplete", "TM_RNDV_INCOMPLETE"},
	}
	if int(s) >= len(texts) {
		return fmt.Sprintf("unknown status %d", uint32(s))
	}
	return fmt.Sprintf("%s (IBV_WC_%s)", texts[s][0], texts[s][1])
}
