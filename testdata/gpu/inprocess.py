#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs allreduces in this process through libinprocess.so: inprocess.py LIBRARY RANKS BYTES SECONDS. gemm.py imports it."""

import ctypes
import sys
import time

# NCCL's numbers of data types.
HALF, FLOAT, BFLOAT16 = 6, 7, 9


class Load:
    """The library, which has one set of ranks at a time."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.start.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int]
        self.lib.calls.restype = ctypes.c_int64
        self.lib.problem.restype = self.lib.library.restype = ctypes.c_char_p

    def _check(self, code):
        if code != 0:
            raise RuntimeError(self.lib.problem().decode())

    def start(self, ranks, size, dtype=FLOAT):
        """Begins, and returns when the first allreduce is done."""
        self._check(self.lib.start(ranks, size, dtype))

    def stop(self):
        """Ends, after what has been started, and raises what went wrong."""
        self._check(self.lib.stop())

    def calls(self):
        """Returns how many allreduces are done since start."""
        return self.lib.calls()

    def library(self):
        """Says which CUDA the library uses."""
        return self.lib.library().decode()


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    load, ranks, size, seconds = Load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    print("cuda", load.library())
    load.start(ranks, size)
    before, begin = load.calls(), time.monotonic()
    time.sleep(seconds)
    calls, took = load.calls(), time.monotonic() - begin
    load.stop()
    print(f"algbw {(calls - before) * size / took / 1e9:.2f} GB/s")
    print("calls", calls)


if __name__ == "__main__":
    main()
