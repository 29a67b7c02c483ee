// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// raceShare is the part of the drawn cases that are left with the race detector: reductions are functions of one goroutine, so
// it only adds checks of pointers, and takes six times as long. `make test` runs all of them without it, twice.
const raceShare = 5

func TestMain(m *testing.M) {
	if raceEnabled {
		checks := flag.Lookup("rapid.checks") // before flags are parsed: this is what -rapid.checks changes
		if err := checks.Value.Set(fmt.Sprint(100 / raceShare)); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
