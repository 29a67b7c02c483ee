# SPDX-License-Identifier: Apache-2.0
"""Where arrays and tensors lie: torch tensors, what has numpy's array interface, and Python's buffers."""

import ctypes
import sys

from ._library import HOST, Invalid

DTYPES = {
    "int8": 0, "uint8": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5, "float16": 6, "float32": 7, "float64": 8, "bfloat16": 9,
    "float8_e4m3fn": 10, "float8_e5m2": 11,
}
# By numpy's kind and size; bfloat16 and float8 of ml_dtypes have kind V or none, and a name.
_KINDS = {"i1": 0, "u1": 1, "i4": 2, "u4": 3, "i8": 4, "u8": 5, "f2": 6, "f4": 7, "f8": 8}
# By the letters of Python's buffers (module struct), whose sizes are this machine's.
_FORMATS = {"b": "i", "h": "i", "i": "i", "l": "i", "q": "i", "n": "i", "B": "u", "H": "u", "I": "u", "L": "u", "Q": "u", "N": "u", "e": "f", "f": "f", "d": "f"}
_NATIVE = "@=" + ("<" if sys.byteorder == "little" else ">")


class Memory:
    """address, count of elements, dtype (hfr_dtype), and stream: HOST, or a cudaStream_t."""

    def __init__(self, address, count, dtype, stream, owner):
        self.address, self.count, self.dtype, self.stream, self.owner = address, count, dtype, stream, owner


def memory(x, written):
    """The memory of x, which is to be written or only read."""
    if hasattr(x, "data_ptr") and hasattr(x, "numel"):
        return _of_tensor(x)
    if hasattr(x, "__array_interface__"):
        return _of_array(x, written)
    return _of_buffer(x, written)


def _of_tensor(x):
    name = str(x.dtype).rpartition(".")[2]
    if name not in DTYPES:
        raise Invalid(f"hfreduce: tensors of {x.dtype} are not supported; convert it, for instance to float32")
    if not x.is_contiguous():
        raise Invalid("hfreduce: the tensor is not contiguous: give x.contiguous()")
    stream = HOST
    if x.device.type == "cuda":
        import torch  # it has been, since there is a tensor

        stream = ctypes.c_void_p(torch.cuda.current_stream(x.device).cuda_stream)
    elif x.device.type != "cpu":
        raise Invalid(f"hfreduce: a tensor on {x.device}: it must be in host memory or on an NVIDIA GPU")
    return Memory(x.data_ptr(), x.numel(), DTYPES[name], stream, x)


def _of_array(x, written):
    face = x.__array_interface__
    if not isinstance(face.get("data"), tuple):  # it has no address to tell
        return _of_buffer(x, written)
    kind = face["typestr"]
    dtype = DTYPES.get(str(getattr(x, "dtype", "")), _KINDS.get(kind[1:]))
    if dtype is None or kind[0] == ">":
        raise Invalid(f"hfreduce: arrays of {getattr(x, 'dtype', kind)} are not supported; convert it, for instance to float32")
    address, readonly = face["data"]
    if face.get("strides") is not None:
        raise Invalid("hfreduce: the array is not contiguous: give numpy.ascontiguousarray(x)")
    if written and (readonly or not getattr(getattr(x, "flags", None), "writeable", True)):  # scalars say so here alone
        raise Invalid("hfreduce: the array to write to is read-only")
    count = 1
    for n in face["shape"]:
        count *= n
    return Memory(address, count, dtype, HOST, (x, face))  # of a scalar face has the only copy that has an address


def _of_buffer(x, written):
    try:
        view = memoryview(x)
    except TypeError:
        raise Invalid(f"hfreduce: {type(x).__name__} is no array, tensor or buffer") from None
    kind = _FORMATS.get(view.format.lstrip(_NATIVE), "") + str(view.itemsize)
    if kind not in _KINDS:
        raise Invalid(f"hfreduce: buffers of format {view.format!r} are not supported")
    if not view.c_contiguous:
        raise Invalid("hfreduce: the buffer is not contiguous")
    if view.readonly:
        if written:
            raise Invalid("hfreduce: the buffer to write to is read-only")
        copy = ctypes.create_string_buffer(view.tobytes(), view.nbytes)
        return Memory(ctypes.addressof(copy), view.nbytes // view.itemsize, _KINDS[kind], HOST, copy)
    raw = (ctypes.c_char * view.nbytes).from_buffer(view) if view.nbytes else None
    return Memory(ctypes.addressof(raw) if raw is not None else None, view.nbytes // view.itemsize, _KINDS[kind], HOST, (raw, view))
