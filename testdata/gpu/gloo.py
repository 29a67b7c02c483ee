# SPDX-License-Identifier: Apache-2.0
"""Measures all_reduce of PyTorch's gloo backend on CUDA tensors.

Starts the ranks itself; they share the GPUs in turn. For each type and size it prints a line
"gloo RANKS TYPE BYTES MICROSECONDS GB/S": the median over the iterations of the slowest rank's time, in place.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int32": torch.int32,
    "int64": torch.int64,
}


def measure(x, iterations, spent):
    """Returns the times of the slowest rank; spent() says on all ranks alike that it is enough."""
    times = []
    dist.all_reduce(x)
    while len(times) < iterations and not (len(times) >= 2 and spent()):
        torch.cuda.synchronize()
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(x)
        torch.cuda.synchronize()
        took = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        times.append(took.item())
    return times


def run(rank, args, meeting):
    """One rank."""
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=args.ranks)
    begin = time.monotonic()

    def spent():
        left = torch.tensor([args.seconds - (time.monotonic() - begin)], dtype=torch.float64)
        dist.all_reduce(left, op=dist.ReduceOp.MIN)
        return left.item() <= 0

    for size in args.sizes:
        for name in args.types:
            if spent():
                if rank == 0:
                    print(f"# gloo: left out after {args.seconds} s: {name} of {size} bytes", flush=True)
                continue
            dtype = TYPES[name]
            x = torch.zeros(size // dtype.itemsize, dtype=dtype, device=device)
            try:
                times = measure(x, args.iterations, spent)
            except (RuntimeError, ValueError) as e:  # of the type, on all ranks alike
                if rank == 0:
                    print(f"# gloo: {name}: {e}", flush=True)
                continue
            if rank == 0:
                t = statistics.median(times)
                print(f"gloo {args.ranks} {name} {size} {t * 1e6:.1f} {size / t / 1e9:.2f}", flush=True)
            del x
    dist.barrier()
    dist.destroy_process_group()


def main():
    """Reads the command line and starts the ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe", action="store_true", help="only tell whether it would work")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--types", nargs="+", choices=sorted(TYPES), default=["float"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1 << 20])
    parser.add_argument("--iterations", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10, help="for all sizes and types together")
    args = parser.parse_args()
    if not (torch.cuda.is_available() and dist.is_available() and dist.is_gloo_available()):
        sys.exit("this PyTorch has no gloo or no CUDA")
    if args.probe:
        print(f"# gloo of PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name may have no address
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run, args=(args, os.path.join(folder, "meeting")), nprocs=args.ranks)


if __name__ == "__main__":
    main()
