// SPDX-License-Identifier: Apache-2.0

package rdma

import (
	"fmt"
	"os"
	"testing"
)

// TestMain fails the run if a test left an object of libibverbs open.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := Live(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "rdma: not closed by the tests: %v\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}
