# SPDX-License-Identifier: Apache-2.0
"""hfreduce: allreduce and its kin over all ranks of a job, on host or GPU memory.

    import hfreduce
    with hfreduce.Comm() as comm:      # rank and meeting point from torchrun, srun or mpirun
        comm.allreduce(x)              # in place: a numpy array, a torch tensor, anything with a buffer

Every rank makes the same calls in the same order. A thin layer over libhfreduce.so (hfreduce.h), which is looked for beside this
file, where HFREDUCE_LIBRARY says, and where the system keeps libraries. Calls do not hold the GIL.
"""

from ._library import ERRORS, Aborted, Closed, Corrupt, Error, Forked, Invalid, Mismatch, NotSupported, PeerLost, SystemFault, TimedOut, version
from .comm import Comm, Request

for _error in (Error, *ERRORS.values()):
    _error.__module__ = __name__  # as tracebacks are to name it

__all__ = [
    "Aborted", "Closed", "Comm", "Corrupt", "ERRORS", "Error", "Forked", "Invalid", "Mismatch", "NotSupported", "PeerLost", "Request",
    "SystemFault", "TimedOut", "version",
]
