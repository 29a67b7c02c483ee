// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hfreduce/hfreduce/hfreduce"
)

func TestServeMetrics(t *testing.T) {
	comms, err := hfreduce.NewLocal([]int{0}, hfreduce.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer comms[0].Close(context.Background())
	if err := comms[0].Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	at, stop, err := serveMetrics("127.0.0.1:0", comms[0])
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + at.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "hfreduce_") {
		t.Errorf("%v, %s\n%s", err, response.Status, body)
	}
	if _, _, err := serveMetrics(at.String(), comms[0]); err == nil || !strings.Contains(err.Error(), "--metrics "+at.String()) {
		t.Errorf("an address in use: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
