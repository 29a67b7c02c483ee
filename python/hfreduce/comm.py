# SPDX-License-Identifier: Apache-2.0
"""Communicators and requests."""

import collections
import contextlib
import ctypes
import math
import operator

from ._library import FORGET, HOST, IN_PROGRESS, Closed, Info, Invalid, Options, check, failure, library
from ._memory import memory

OPS = {"sum": 0, "prod": 1, "max": 2, "min": 3, "avg": 4}


def _op(name):
    if name not in OPS:
        raise Invalid(f"hfreduce: op {name!r} is none of {', '.join(OPS)}")
    return OPS[name]


def _int32(name, n):
    """n, which ctypes would cut to 32 bits without a word."""
    n = operator.index(n)
    if not -1 << 31 <= n < 1 << 31:
        raise Invalid(f"hfreduce: {name} {n} does not fit into 32 bits")
    return n


def _milliseconds(seconds):
    """hfreduce.h's milliseconds, in which a negative number is no bound."""
    ms = seconds * 1000
    return -1 if ms < 0 or ms >= 1 << 62 else math.ceil(ms)


# The arrays of what was started and may not be done, by handle: the library works on them also when nobody keeps the Request. It
# does so at the interpreter's end, too, which is why the dictionary is never freed.
_arrays = {}
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_arrays))
_dropped = collections.deque()  # handles of those that nobody kept


def _sweep(most):
    """Lets go of the arrays of dropped requests that are done, having looked at so many."""
    for _ in range(min(most, len(_dropped))):
        try:
            handle = _dropped.popleft()
        except IndexError:  # another thread's
            return
        if library.hfr_wait(handle, 0) == IN_PROGRESS:
            _dropped.append(handle)
        else:
            _arrays.pop(handle, None)


class Request:
    """A collective that was started. Its arrays belong to it until it is done, also if the Request itself is not kept."""

    def __init__(self, handle, arrays):
        _arrays[handle] = arrays
        self._handle, self._failure = handle, None

    def __del__(self, drop=_dropped.append):
        if self._handle is not None:
            drop(self._handle)  # and no more: this may run anywhere

    def wait(self, timeout=None):
        """Waits, for so many seconds or for ever, and reports whether it is done; raises what it failed with."""
        if self._handle is not None:
            status = library.hfr_wait(self._handle, -1 if timeout is None else _milliseconds(max(0, timeout)))
            if status == IN_PROGRESS:
                return False
            self._failure = failure(status)
            _arrays.pop(self._handle, None)
            self._handle = None
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)  # a new one for each call, as it keeps the frames that it went through
        return True

    def done(self):
        """Whether it is done; raises what it failed with."""
        return self.wait(0)


class Comm:
    """One rank's end of a group of ranks. What is not given is from the environment: HFREDUCE_..., torchrun, srun, mpirun.

    Collectives take numpy arrays, torch tensors (on GPUs in the order of the current stream) and buffers, all contiguous. Without
    recv they work in place. Each has a form with _async, which returns a Request; with forget, for tensors on a GPU, there is none:
    what the stream is given next sees the result.

    Timeouts are in seconds; negative: none. init_timeout bounds the meeting, timeout a collective that makes no progress.
    """

    def __init__(self, rank=0, world_size=0, rendezvous=None, job_id=None, node=None, transport=None, cuda=None, init_timeout=None, timeout=None):
        options = Options(
            ctypes.sizeof(Options), _int32("rank", rank), _int32("world_size", world_size),
            *(None if s is None else s.encode() for s in (rendezvous, job_id, node, transport, cuda)),
            *(0 if t is None else _milliseconds(t) or 1 for t in (init_timeout, timeout)),  # 0 is the default
        )
        handle = ctypes.c_uint64()
        check(library.hfr_init(ctypes.byref(options), ctypes.byref(handle)))
        self._take(handle)

    @classmethod
    def _of(cls, handle):
        comm = cls.__new__(cls)
        comm._take(handle)
        return comm

    def _take(self, handle):
        self._open, info = handle.value, Info()  # 0: closed
        check(library.hfr_get_info(self._handle, ctypes.byref(info)))
        self.rank, self.world_size = info.rank, info.world_size
        self.local_rank, self.local_size = info.local_rank, info.local_size
        self.node, self.nodes = info.node, info.nodes

    @property
    def _handle(self):
        if not self._open:
            raise Closed("hfreduce: the communicator was closed")
        return self._open

    def __repr__(self):
        return f"<hfreduce.Comm rank {self.rank} of {self.world_size}, node {self.node} of {self.nodes}>"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            with contextlib.suppress(Exception):  # the first one counts
                self.abort(f"{kind.__name__} on rank {self.rank}")
            with contextlib.suppress(Exception):
                self.close()
            return
        self.close()

    def close(self):
        """Ends the communicator, with what was started on it. All ranks call it. A second call does nothing."""
        handle, self._open = self._open, 0
        if handle:
            error = failure(library.hfr_close(handle))
            _sweep(len(_dropped))
            if error is not None:
                raise error

    def abort(self, why):
        """Breaks the communicator on all ranks at once; every rank gets to read why."""
        check(library.hfr_abort(self._handle, str(why).encode()))

    def split(self, color, key=0):
        """A communicator of the ranks with the same color, in the order of key, then rank; None for a color of None."""
        handle = ctypes.c_uint64()
        check(library.hfr_split(self._handle, -1 if color is None else _int32("color", color), _int32("key", key), ctypes.byref(handle)))
        return Comm._of(handle) if handle.value else None

    def shrink(self):
        """A communicator of the ranks that are left of a broken one; those call it."""
        handle = ctypes.c_uint64()
        check(library.hfr_shrink(self._handle, ctypes.byref(handle)))
        return Comm._of(handle)

    def barrier(self):
        """Returns when all ranks have called it."""
        check(library.hfr_barrier(self._handle))

    def allreduce(self, send, recv=None, op="sum"):
        """Reduces send over all ranks into recv on every rank."""
        self._allreduce(send, recv, op, None)

    def allreduce_async(self, send, recv=None, op="sum", forget=False):
        """Starts allreduce."""
        return self._start(self._allreduce, forget, send, recv, op)

    def _allreduce(self, send, recv, op, request):
        s, r = self._pair(send, recv)
        self._same(s, r, 1, 1)
        check(library.hfr_allreduce(self._handle, s.address, r.address, s.count, s.dtype, _op(op), s.stream, request))
        return s, r

    def reduce(self, send, recv=None, op="sum", root=0):
        """Reduces send over all ranks into recv on rank root; on others recv is not used."""
        self._reduce(send, recv, op, root, None)

    def reduce_async(self, send, recv=None, op="sum", root=0, forget=False):
        """Starts reduce."""
        return self._start(self._reduce, forget, send, recv, op, root)

    def _reduce(self, send, recv, op, root, request):
        s, r = self._pair(send, recv) if self.rank == root else (memory(send, False),) * 2
        self._same(s, r, 1, 1)
        check(library.hfr_reduce(self._handle, s.address, r.address, s.count, s.dtype, _op(op), _int32("root", root), s.stream, request))
        return s, r

    def broadcast(self, array, root=0):
        """Copies the array of rank root to all ranks' arrays."""
        self._broadcast(array, root, None)

    def broadcast_async(self, array, root=0, forget=False):
        """Starts broadcast."""
        return self._start(self._broadcast, forget, array, root)

    def _broadcast(self, array, root, request):
        a = memory(array, self.rank != root)
        check(library.hfr_broadcast(self._handle, a.address, a.address, a.count, a.dtype, _int32("root", root), a.stream, request))
        return (a,)

    def reduce_scatter(self, send, recv, op="sum"):
        """Reduces send, which has a block for each rank, and leaves each rank its block in recv."""
        self._reduce_scatter(send, recv, op, None)

    def reduce_scatter_async(self, send, recv, op="sum", forget=False):
        """Starts reduce_scatter."""
        return self._start(self._reduce_scatter, forget, send, recv, op)

    def _reduce_scatter(self, send, recv, op, request):
        s, r = self._pair(send, recv)
        self._same(s, r, 1, self.world_size)
        check(library.hfr_reduce_scatter(self._handle, s.address, r.address, r.count, s.dtype, _op(op), s.stream, request))
        return s, r

    def all_gather(self, send, recv):
        """Puts all ranks' send into recv, one after the other, on every rank."""
        self._all_gather(send, recv, None)

    def all_gather_async(self, send, recv, forget=False):
        """Starts all_gather."""
        return self._start(self._all_gather, forget, send, recv)

    def _all_gather(self, send, recv, request):
        s, r = self._pair(send, recv)
        self._same(s, r, self.world_size, 1)
        check(library.hfr_all_gather(self._handle, s.address, r.address, s.count, s.dtype, s.stream, request))
        return s, r

    @staticmethod
    def _pair(send, recv):
        if recv is None or recv is send:
            m = memory(send, True)
            return m, m
        return memory(send, False), memory(recv, True)

    @staticmethod
    def _same(s, r, times_send, times_recv):
        """Checks that two memories fit together: send's count and recv's, each that many times."""
        if s.dtype != r.dtype or s.count * times_send != r.count * times_recv or (s.stream is HOST) != (r.stream is HOST):
            raise Invalid(f"hfreduce: send has {s.count} elements and recv {r.count}, which must be of one type and place, and {times_recv} to {times_send}")

    @staticmethod
    def _start(call, forget, *arguments):
        if forget:
            if memory(arguments[0], False).stream is HOST:
                raise Invalid("hfreduce: forget is for tensors on a GPU: only a stream keeps memory until the collective is done")
            call(*arguments, FORGET)
            return None
        _sweep(4)  # more than can come anew
        handle = ctypes.c_uint64()
        arrays = call(*arguments, ctypes.byref(handle))
        return Request(handle.value, arrays)
