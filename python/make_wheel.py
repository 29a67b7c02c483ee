# SPDX-License-Identifier: Apache-2.0
"""Writes the package with its library as a wheel: python3 make_wheel.py LIBRARY FOLDER. It needs Python alone."""

import base64
import ctypes
import hashlib
import os
import re
import sys
import sysconfig
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
METADATA = """Metadata-Version: 2.1
Name: hfreduce
Version: {version}
Summary: Allreduce for GPU training nodes without NVLink
License: Apache-2.0
Requires-Python: >=3.9
"""
WHEEL = """Wheel-Version: 1.0
Generator: hfreduce
Root-Is-Purelib: false
Tag: {tag}
"""


def version_of(library):
    """The library's version as Python writes versions: v1.2.3, or v1.2.3-TIME-COMMIT of a commit after the release before it."""
    lib = ctypes.CDLL(library)
    lib.hfr_version.restype = ctypes.c_char_p
    m = re.fullmatch(r"v(\d+\.\d+\.\d+)(?:-(?:0\.)?(\d+)-([0-9a-f]+))?(?:\+(\w+))?", lib.hfr_version().decode())
    if not m:
        return "0.0.0.dev0"
    number, time, *local = m.groups()
    local = ".".join(part for part in local if part)
    return number + (f".dev{time}" if time else "") + (f"+{local}" if local else "")


def main(library, folder):
    version = version_of(library)
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    package = os.path.join(HERE, "hfreduce")
    files = {f"hfreduce/{name}": os.path.join(package, name) for name in sorted(os.listdir(package)) if name.endswith(".py")}
    contents = {name: open(path, "rb").read() for name, path in files.items()}
    contents[f"hfreduce/{os.path.basename(library)}"] = open(library, "rb").read()
    info = f"hfreduce-{version}.dist-info"
    contents[f"{info}/METADATA"] = METADATA.format(version=version).encode()
    contents[f"{info}/WHEEL"] = WHEEL.format(tag=tag).encode()
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n" for name, data in contents.items()
    )
    contents[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"hfreduce-{version}-{tag}.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name)  # of 1980: the same contents give the same wheel
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    print(path)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]), sys.argv[2])
