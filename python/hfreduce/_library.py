# SPDX-License-Identifier: Apache-2.0
"""The functions of hfreduce.h, and their errors as exceptions."""

import ctypes
import os

SONAME = "libhfreduce.so.0"

HOST = ctypes.c_void_p(-1)  # HFR_HOST, in place of a stream
FORGET = ctypes.cast(ctypes.c_void_p(-1), ctypes.POINTER(ctypes.c_uint64))
IN_PROGRESS = 11


class Error(RuntimeError):
    """A call failed; the text names the rank, host, process or GPU to blame. What broke a communicator breaks it for all ranks."""


class Invalid(Error, ValueError):
    """A bad argument or option; nothing was done."""


class SystemFault(Error):
    """The system, CUDA or an adapter refused something."""


class TimedOut(Error, TimeoutError):
    """The ranks did not meet, or a collective made no progress, in time."""


class PeerLost(Error):
    """Another rank ended, or cannot be reached."""


class Mismatch(Error):
    """The ranks made different calls."""


class Aborted(Error):
    """Some rank called abort."""


class Corrupt(Error):
    """Data was changed on its way, or results differ."""


class Closed(Error):
    """The communicator was closed."""


class NotSupported(Error):
    """This machine or build lacks what the call needs."""


class Forked(Error):
    """The process was forked after the library was loaded: use the start method "spawn", or load it in the child."""


# By hfr_status.
ERRORS = {1: Invalid, 2: SystemFault, 3: TimedOut, 4: PeerLost, 5: Mismatch, 6: Aborted, 7: Corrupt, 8: Closed, 9: NotSupported, 10: Forked}


class Options(ctypes.Structure):
    """hfr_options."""

    _fields_ = [
        ("size", ctypes.c_size_t), ("rank", ctypes.c_int32), ("world_size", ctypes.c_int32), ("rendezvous", ctypes.c_char_p),
        ("job_id", ctypes.c_char_p), ("node", ctypes.c_char_p), ("transport", ctypes.c_char_p), ("cuda", ctypes.c_char_p),
        ("init_timeout_ms", ctypes.c_int64), ("timeout_ms", ctypes.c_int64),
    ]


class Info(ctypes.Structure):
    """hfr_info."""

    _fields_ = [(name, ctypes.c_int32) for name in ("rank", "world_size", "local_rank", "local_size", "node", "nodes")]


_comm, _int, _size, _pointer = ctypes.c_uint64, ctypes.c_int32, ctypes.c_size_t, ctypes.c_void_p
_out = ctypes.POINTER(ctypes.c_uint64)  # of handles
_FUNCTIONS = {
    "hfr_init": [ctypes.POINTER(Options), _out],
    "hfr_split": [_comm, _int, _int, _out],
    "hfr_shrink": [_comm, _out],
    "hfr_get_info": [_comm, ctypes.POINTER(Info)],
    "hfr_abort": [_comm, ctypes.c_char_p],
    "hfr_close": [_comm],
    "hfr_allreduce": [_comm, _pointer, _pointer, _size, _int, _int, _pointer, _out],
    "hfr_reduce": [_comm, _pointer, _pointer, _size, _int, _int, _int, _pointer, _out],
    "hfr_broadcast": [_comm, _pointer, _pointer, _size, _int, _int, _pointer, _out],
    "hfr_reduce_scatter": [_comm, _pointer, _pointer, _size, _int, _int, _pointer, _out],
    "hfr_all_gather": [_comm, _pointer, _pointer, _size, _int, _pointer, _out],
    "hfr_barrier": [_comm],
    "hfr_wait": [_comm, ctypes.c_int64],
}


def _load():
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), SONAME)
    name = os.environ.get("HFREDUCE_LIBRARY") or (beside if os.path.exists(beside) else SONAME)
    try:
        found = ctypes.CDLL(name)
    except OSError as e:
        raise ImportError(f"hfreduce: {e}; build it with 'make lib' and set HFREDUCE_LIBRARY to bin/lib/{SONAME}") from e
    for function, arguments in _FUNCTIONS.items():
        getattr(found, function).argtypes = arguments
    found.hfr_last_error.restype = ctypes.c_char_p
    found.hfr_version.restype = ctypes.c_char_p
    return found


class _Library:
    """The library, loaded by the first call: so that a process may fork workers before."""

    def __init__(self):
        self.loaded = None

    def __getattr__(self, name):
        if self.loaded is None:
            self.loaded = _load()
        return getattr(self.loaded, name)


library = _Library()


def failure(status):
    """The exception of an hfr_status that this thread got last, None for HFR_OK."""
    if status == 0:
        return None
    text = library.hfr_last_error().decode(errors="replace")
    return ERRORS.get(status, Error)(text)


def check(status):
    """Raises the exception of an hfr_status."""
    error = failure(status)
    if error is not None:
        raise error


def version():
    """The library's version."""
    return library.hfr_version().decode()
