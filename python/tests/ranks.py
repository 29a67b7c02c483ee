# SPDX-License-Identifier: Apache-2.0
"""What a rank does in a test: python3 ranks.py NAME, started by test_hfreduce.py. It prints "ok" last."""

import array
import contextlib
import ctypes
import gc
import os
import sys
import threading
import time

import hfreduce


def raises(kind, words, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind as e:
        assert words in str(e), (words, str(e))
    else:
        raise AssertionError(f"no {kind.__name__}")


def collectives(comm):
    n = comm.world_size
    total = n * (n + 1) // 2
    x = array.array("f", [comm.rank + 1, 2])
    comm.allreduce(x)
    assert list(x) == [total, 2 * n], x
    y = array.array("f", [0, 0])
    comm.allreduce(array.array("f", [comm.rank, 1]), y, op="max")
    assert list(y) == [n - 1, 1], y
    x = array.array("q", [comm.rank + 1])
    comm.reduce(x, op="prod", root=n - 1)
    assert x[0] == (1 if comm.rank < n - 1 and comm.rank == 0 else x[0])
    data = bytearray(b"abc" if comm.rank == 1 else b"xyz")
    comm.broadcast(data, root=1)
    assert data == b"abc", data
    blocks = bytearray(3 * n)
    comm.all_gather(bytes([comm.rank] * 3), blocks)
    assert blocks == bytes(r for r in range(n) for _ in range(3)), blocks
    part = array.array("i", [0])
    comm.reduce_scatter(array.array("i", range(n)), part)
    assert part[0] == n * comm.rank, part
    comm.barrier()

    requests = [comm.allreduce_async(x) for x in (array.array("d", [1.0] * 100_000), array.array("d", [2.0]))]
    assert requests[1].wait() and requests[0].wait(10) and requests[0].done()
    raises(hfreduce.Invalid, "forget is for tensors on a GPU", comm.allreduce_async, x, forget=True)

    group = comm.split(comm.rank % 2, key=-comm.rank)
    x = array.array("i", [1])
    group.allreduce(x)
    assert x[0] == group.world_size, (x, group)
    group.close()
    group.close()
    raises(hfreduce.Closed, "the communicator was closed", group.allreduce, x)
    with contextlib.suppress(KeyError), comm.split(0) as group:
        group.close()
        raise KeyError("not hidden by what happens after it")
    with comm.split(None if comm.rank == 0 else 1) or contextlib.nullcontext() as group:
        assert (group is None) == (comm.rank == 0), group
    with contextlib.suppress(KeyError), comm.split(0) as group:  # what the block raised counts
        group.close()
        raise KeyError
    x = (ctypes.c_float * 2)(comm.rank, 1)
    comm.allreduce(x, op="max")
    assert list(x) == [n - 1, 1], list(x)
    raises(hfreduce.Invalid, "root 4294967297 does not fit", comm.broadcast, bytearray(1), root=(1 << 32) + 1)
    raises(hfreduce.Invalid, "color 2147483648 does not fit", comm.split, 1 << 31)
    raises(hfreduce.Invalid, "op 'mean' is none of sum", comm.allreduce, x, op="mean")
    raises(hfreduce.Invalid, "read-only", comm.allreduce, b"abc")
    raises(hfreduce.Invalid, "is no array, tensor or buffer", comm.allreduce, 7)
    raises(hfreduce.Invalid, "must be of one type and place", comm.allreduce, array.array("f", [1]), array.array("f", [1, 2]))
    raises(ValueError, "not contiguous", comm.allreduce, memoryview(bytearray(8))[::2])
    assert hfreduce.version()


def requests(comm):
    """Requests that nobody keeps work on memory that stays; an outcome is the same each time it is asked for."""
    ones = array.array("f", [1]) * (1 << 20)
    if comm.rank == 0:
        for _ in range(4):
            comm.allreduce_async(ones[:])
        gc.collect()
    else:
        time.sleep(0.5)
        for _ in range(4):
            x = ones[:]
            comm.allreduce(x)
            assert x == array.array("f", [comm.world_size]) * len(ones)
    comm.barrier()
    comm.allreduce_async(array.array("f", [1])).wait(float("inf"))
    assert not hfreduce.comm._arrays, len(hfreduce.comm._arrays)
    if comm.rank == 0:
        request = comm.allreduce_async(ones)
        assert not request.wait(0.5)  # and the others are done with the call before
        comm.abort("enough")
        for call in (request.wait, request.done):
            raises(hfreduce.Aborted, "enough", call)
    else:
        time.sleep(1)
    raises(hfreduce.Aborted, "enough", comm.allreduce, ones)


def arrays(comm):
    import numpy

    n = comm.world_size
    for dtype in ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"):
        x = numpy.arange(7, dtype=dtype).reshape(7, 1)
        comm.allreduce(x)
        assert (x.ravel() == n * numpy.arange(7, dtype=dtype)).all(), x
    raises(hfreduce.Invalid, "not contiguous", comm.allreduce, numpy.zeros((4, 4))[:, 1])
    raises(hfreduce.Invalid, "not supported", comm.allreduce, numpy.zeros(3, dtype="complex64"))
    raises(hfreduce.Invalid, "not supported", comm.allreduce, numpy.zeros(3, dtype=">f4"))
    x = numpy.zeros(3)
    x.flags.writeable = False
    raises(hfreduce.Invalid, "read-only", comm.allreduce, x)
    raises(hfreduce.Invalid, "read-only", comm.allreduce, numpy.float32(1))
    x = numpy.zeros(1, dtype="float32")
    comm.allreduce(numpy.float32(comm.rank + 1), x)
    assert x[0] == n * (n + 1) // 2, x
    comm.allreduce(numpy.zeros((0, 5)))


def lost(comm):
    try:
        comm.barrier()
    except hfreduce.PeerLost:  # rank 1 was through with it, and is gone, when others were not
        assert comm.rank != 1
    if comm.rank == 1:
        os._exit(0)
    x = array.array("f", [1])
    raises(hfreduce.PeerLost, "rank 1", comm.allreduce, x)
    smaller = comm.shrink()
    x = array.array("f", [1])
    smaller.allreduce(x)
    assert x[0] == comm.world_size - 1, (x, smaller, comm)
    smaller.close()
    comm.close()


def fails(comm):
    """A rank's exception ends the others, with its name."""
    try:
        with comm:
            if comm.rank == 1:
                raise ZeroDivisionError
            comm.barrier()
            comm.barrier()
    except ZeroDivisionError:
        assert comm.rank == 1
    except hfreduce.Aborted as e:
        assert comm.rank != 1 and "ZeroDivisionError on rank 1" in str(e), e


def forked(comm):
    child = os.fork()
    if child == 0:
        try:
            comm.barrier()
        except hfreduce.Forked:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    comm.barrier()


def training(comm):
    """DDP with the hook ends with the model that it ends with by gloo alone: with two ranks to the bit."""
    import torch
    import torch.distributed
    import hfreduce.torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method="env://", rank=comm.rank, world_size=comm.world_size)

    def train(hook):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
        model = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.25)
        if hook:
            model.register_comm_hook(comm, hfreduce.torch.average)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(100 + comm.rank)
        losses = []
        for _ in range(40):
            x = torch.randn(16, 64, generator=generator)
            loss = (model(x) - x[:, :8]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, torch.cat([p.detach().flatten() for p in model.parameters()])

    (losses, ours), (others, theirs) = train(True), train(False)
    assert losses == others and torch.equal(ours, theirs), (losses, others)
    assert sum(losses[-5:]) < sum(losses[:5]), losses
    for dtype in (torch.bfloat16, torch.float16, torch.int64):
        x = torch.full((3, 5), comm.rank + 1, dtype=dtype)
        comm.allreduce(x)
        assert (x == 3).all(), x
    raises(hfreduce.Invalid, "not contiguous", comm.allreduce, torch.zeros(4, 4).t())
    raises(hfreduce.Invalid, "torch.bool are not supported", comm.allreduce, torch.zeros(4, dtype=torch.bool))

    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    model.register_comm_hook(comm, hfreduce.torch.average)
    if comm.rank == 0:
        time.sleep(0.5)
        comm.abort("enough")
    raises(RuntimeError, "enough", lambda: model(torch.ones(1, 2)).sum().backward())
    assert any(t.name == "hfreduce" for t in threading.enumerate())


if __name__ == "__main__":
    comm = hfreduce.Comm(init_timeout=60, cuda="off")
    globals()[sys.argv[1]](comm)
    if sys.argv[1] not in ("lost", "fails"):
        comm.close()
    print("ok")
