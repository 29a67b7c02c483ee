// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hfreduce/hfreduce/hfreduce"
	"github.com/hfreduce/hfreduce/hfreduce/metrics"
)

// metricsTimeout bounds what a slow client may take, and the end of the server.
const metricsTimeout = 5 * time.Second

// serveMetrics serves a communicator's metrics at /metrics of an address, until stop is called. It returns the address,
// in which port 0 has become the one that the system chose.
func serveMetrics(address string, comm *hfreduce.Comm) (at net.Addr, stop func() error, err error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(metrics.NewCollector(comm.Stats)); err != nil {
		return nil, nil, fmt.Errorf("--metrics: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("--metrics %s cannot be listened on, give host:port or :port that is free: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: metricsTimeout, WriteTimeout: metricsTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return listener.Addr(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
		defer cancel()
		err := server.Shutdown(ctx)
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}, nil
}
