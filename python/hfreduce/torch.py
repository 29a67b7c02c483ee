# SPDX-License-Identifier: Apache-2.0
"""hfreduce for PyTorch's DistributedDataParallel: a communication hook that averages the gradients.

    comm = hfreduce.Comm()
    model = torch.nn.parallel.DistributedDataParallel(model)
    model.register_comm_hook(comm, hfreduce.torch.average)

The process group of DDP, gloo for instance, is still used to compare the models at the start. Buckets on a GPU are averaged in the
order of the stream that made them, and backward goes on meanwhile; those in host memory by hfreduce's threads.
"""

import queue
import threading
import weakref

import torch

_waiters = weakref.WeakKeyDictionary()  # by Comm


class _Waiter:
    """A thread that completes futures in the order in which their collectives were started, which is that of their ends."""

    def __init__(self, comm):
        self.started = queue.SimpleQueue()
        weakref.finalize(comm, self.started.put, None)
        threading.Thread(target=self._run, args=(self.started,), name="hfreduce", daemon=True).start()

    @staticmethod
    def _run(started):
        while (work := started.get()) is not None:
            request, future, bucket = work
            try:
                request.wait()
            except Exception as e:
                future.set_exception(e)
            else:
                future.set_result(bucket)


def average(comm, bucket):
    """The hook: averages a bucket of gradients over all ranks of comm, in place."""
    gradients = bucket.buffer()
    if gradients.is_cuda:
        comm.allreduce_async(gradients, op="avg", forget=True)
        future = torch.futures.Future(devices=[gradients.device])
        future.set_result(gradients)  # on the current stream, behind the copies
        return future
    future = torch.futures.Future()
    request = comm.allreduce_async(gradients, op="avg")
    if comm not in _waiters:
        _waiters[comm] = _Waiter(comm)
    _waiters[comm].started.put((request, future, gradients))
    return future
