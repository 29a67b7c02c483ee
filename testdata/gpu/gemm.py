#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what a running allreduce takes from a matrix product (GEMM) on the same GPU, and prints a table.

In rounds, so that a clock that drifts hits both alike: the GEMM alone, beside allreduces, alone again, ... The figure of a
phase is the median over batches of products, by CUDA events; "ratio" is the median over rounds of beside against the mean of
the alone before and after. 1.00 means that nothing was taken; the price of it is seen in "algbw", which the allreduces had
meanwhile.

Where the ranks are: "inprocess", goroutines in this process (--library), as in a training program with one context; or
"processes", by hfreduce bench (--bench). Without MPS (nvidia-cuda-mps-control) separate processes get the GPU by turns, also
those that run no kernel: that then shows in the ratio, and says nothing of hfreduce.
"""

import os

# Before CUDA starts: else streams share eight queues, and a product may wait behind a copy of another stream.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")

import argparse
import contextlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import inprocess

DTYPES = {"float": (inprocess.FLOAT, "float"), "half": (inprocess.HALF, "half"), "bf16": (inprocess.BFLOAT16, "bfloat16")}


class Gemm:
    """C = A B of bf16 matrices of one size."""

    def __init__(self, torch, n):
        self.torch, self.n = torch, n
        self.a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        self.b = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        self.c = torch.empty(n, n, device="cuda", dtype=torch.bfloat16)
        self.per_batch = 1
        self.measure(0.5)  # the clocks, the choice of the algorithm
        # Batches of 30 ms: longer than a turn of the GPU's scheduler, short enough for a median.
        self.per_batch = max(1, round(0.03 / (2 * n**3 / self.measure(0.5) / 1e12)))

    def batch(self):
        """Gives a batch to the GPU and returns the events around it."""
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(self.per_batch):
            self.torch.mm(self.a, self.b, out=self.c)
        end.record()
        return begin, end

    def measure(self, seconds):
        """Returns the median of TFLOP/s over batches. The next batch is queued before the last is over: no gaps."""
        figures, stop, last = [], time.monotonic() + seconds, self.batch()
        while time.monotonic() < stop or len(figures) < 3:
            following = self.batch()
            last[1].synchronize()
            figures.append(self.per_batch * 2 * self.n**3 / last[0].elapsed_time(last[1]) / 1e9)
            last = following
        last[1].synchronize()
        return statistics.median(figures)


@contextlib.contextmanager
def library_load(load, ranks, size, dtype):
    """Runs allreduces in this process; gives a function that returns the algbw since it was last called."""
    load.start(ranks, size, DTYPES[dtype][0])
    state = [load.calls(), time.monotonic()]

    def algbw():
        calls, now = load.calls(), time.monotonic()
        figure = (calls - state[0]) * size / (now - state[1]) / 1e9
        state[:] = calls, now
        return figure

    try:
        yield algbw
    finally:
        load.stop()


def rows(path):
    """Returns the algbw of each row that hfreduce bench has printed, out-of-place and in-place."""
    figures = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if line.endswith("\n") and len(fields) >= 13 and fields[0].isdigit():
                figures += [float(fields[6]), float(fields[10])]
    return figures


@contextlib.contextmanager
def bench_load(command, ranks, size, dtype):
    """Runs hfreduce bench without end; gives a function that returns the median algbw of the rows since the last call."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        args = command + ["-np", str(ranks), "-g", "1", "-b", str(size), "-e", str(size), "-d", DTYPES[dtype][1], "-n", "5", "-c", "0", "-N", "0"]
        with open(out, "wb") as f:
            job = subprocess.Popen(args, stdout=f, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 60
            while not rows(out):
                if job.poll() is not None or time.monotonic() > deadline:
                    with open(out, encoding="utf-8") as f:
                        raise RuntimeError(f"{shlex.join(args)} has no result\n{f.read()}")
                time.sleep(0.05)
            with open(out, encoding="utf-8") as f:
                if "host memory" in f.read():
                    print("# of no use: the next line's ranks have their buffers in host memory")
            seen = [len(rows(out))]

            def algbw():
                if job.poll() is not None:
                    raise RuntimeError(f"{shlex.join(args)} has ended with {job.returncode}")
                figures = rows(out)
                latest, seen[0] = figures[seen[0]:] or figures[-2:], len(figures)
                return statistics.median(latest)

            yield algbw
        finally:
            if job.poll() is None:
                job.send_signal(signal.SIGTERM)
            try:
                job.wait(20)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()


def interleave(gemm, load, rounds, seconds):
    """Measures alone, beside, alone, ... and returns the medians of alone, beside, their ratio, and algbw."""
    alone, beside, bandwidth = [gemm.measure(seconds)], [], []
    for _ in range(rounds):
        with load() as algbw:
            algbw()
            beside.append(gemm.measure(seconds))
            bandwidth.append(algbw())
        alone.append(gemm.measure(seconds))
    ratios = [b / ((before + after) / 2) for b, before, after in zip(beside, alone, alone[1:])]
    return statistics.median(alone), statistics.median(beside), statistics.median(ratios), max(ratios) - min(ratios), statistics.median(bandwidth)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--library", metavar="FILE", help="libinprocess.so: ranks in this process")
    p.add_argument("--bench", metavar="COMMAND", help="hfreduce bench, with more flags if need be: ranks in processes of their own")
    p.add_argument("--ranks", type=int, nargs="+", default=[2, 8])
    p.add_argument("--mib", type=int, default=64, help="the buffer of each rank")
    p.add_argument("--dtype", choices=DTYPES, default="float")
    p.add_argument("--gemm", type=int, nargs="+", default=[8192, 4096], metavar="N")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0, help="of each phase")
    args = p.parse_args()
    if not args.library and not args.bench:
        p.error("give --library or --bench, or both")
    return args


def main():
    args = arguments()
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        print("gemm.py: needs torch and a GPU that it can use", file=sys.stderr)
        sys.exit(77)
    torch.cuda.init()
    size = args.mib << 20
    loads = []  # (where, ranks, function that makes the context)
    if args.library:
        load = inprocess.Load(args.library)  # after torch, so that it takes torch's CUDA runtime
        print(f"# {args.library}: {load.library()}")
        loads += [("inprocess", n, lambda n=n: library_load(load, n, size, args.dtype)) for n in args.ranks]
    if args.bench:
        command = shlex.split(args.bench)
        loads += [("processes", n, lambda n=n: bench_load(command, n, size, args.dtype)) for n in args.ranks]
    print(f"# {torch.cuda.get_device_name()}, torch {torch.__version__}, {args.mib} MiB of {args.dtype}, {args.rounds} rounds of {args.seconds} s, "
          f"MPS {'on' if os.path.exists(os.environ.get('CUDA_MPS_PIPE_DIRECTORY', '/tmp/nvidia-mps')) else 'off'}")
    print(f"# {'where':>10} {'ranks':>6} {'GEMM':>6} {'alone':>9} {'beside':>9} {'ratio':>7} {'spread':>7} {'algbw':>8}")
    print(f"# {'':>10} {'':>6} {'(N)':>6} {'(TFLOP/s)':>9} {'(TFLOP/s)':>9} {'':>7} {'':>7} {'(GB/s)':>8}", flush=True)
    for n in args.gemm:
        gemm = Gemm(torch, n)
        for where, ranks, make in loads:
            alone, beside, ratio, spread, algbw = interleave(gemm, make, args.rounds, args.seconds)
            print(f"  {where:>10} {ranks:>6} {n:>6} {alone:>9.1f} {beside:>9.1f} {ratio:>7.3f} {spread:>7.3f} {algbw:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
