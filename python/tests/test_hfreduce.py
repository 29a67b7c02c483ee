# SPDX-License-Identifier: Apache-2.0
"""Tests of the Python package: python3 -m unittest discover -s python/tests, with HFREDUCE_LIBRARY (make test-python)."""

import base64
import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import unittest
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
# On a machine that is to have them, their absence is a failure.
REQUIRED = {name.strip() for name in os.environ.get("HFREDUCE_TEST_REQUIRE", "").split(",")}


def port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def needs(module):
    def decorate(test):
        if importlib.util.find_spec(module) is None and REQUIRED.isdisjoint({"python", "all"}):
            return unittest.skip(f"{module} is not installed")(test)
        return test

    return decorate


class TestHFReduce(unittest.TestCase):
    def ranks(self, name, n, lost=()):
        env = dict(os.environ, PYTHONPATH=os.path.dirname(HERE), HFREDUCE_WORLD_SIZE=str(n), HFREDUCE_RENDEZVOUS=f"127.0.0.1:{port()}",
                   HFREDUCE_JOB_ID=name, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port()), GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
        processes = [
            subprocess.Popen([sys.executable, os.path.join(HERE, "ranks.py"), name], env=dict(env, HFREDUCE_RANK=str(rank), HFREDUCE_NODE=f"node{rank // 2}"),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for rank in range(n)
        ]
        try:
            said = [p.communicate(timeout=120)[0] for p in processes]
        finally:
            for p in processes:
                p.kill()
        for rank, (p, out) in enumerate(zip(processes, said)):
            if rank not in lost:
                self.assertTrue(p.returncode == 0 and out.endswith("ok\n"), f"rank {rank} ended with {p.returncode}; all said\n" + "\n--\n".join(said))

    def test_collectives(self):
        self.ranks("collectives", 3)

    def test_requests(self):
        self.ranks("requests", 3)

    @needs("numpy")
    def test_arrays(self):
        self.ranks("arrays", 2)

    def test_lost_rank(self):
        self.ranks("lost", 3, lost=(1,))

    def test_exception_in_a_rank(self):
        self.ranks("fails", 3)

    def test_fork(self):
        self.ranks("forked", 2)

    @needs("torch")
    def test_training(self):
        self.ranks("training", 2)

    def test_wheel(self):
        """The wheel has what its RECORD says, the library included, and works without the source tree."""
        with tempfile.TemporaryDirectory() as folder:
            make = os.path.join(os.path.dirname(HERE), "make_wheel.py")
            subprocess.run([sys.executable, make, os.environ["HFREDUCE_LIBRARY"], folder], check=True, stdout=subprocess.DEVNULL)
            (name,) = os.listdir(folder)
            self.assertRegex(name, r"^hfreduce-\d+\.\d+\.\d+[^-]*-py3-none-linux_\w+\.whl$")
            with zipfile.ZipFile(os.path.join(folder, name)) as wheel:
                (record,) = (n for n in wheel.namelist() if n.endswith("RECORD"))
                for line in wheel.read(record).decode().splitlines():
                    path, digest, size = line.rsplit(",", 2)
                    if path != record:
                        data = wheel.read(path)
                        self.assertEqual((digest, size), ("sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("="), str(len(data))))
                wheel.extractall(os.path.join(folder, "site"))
            env = {k: v for k, v in os.environ.items() if k not in ("HFREDUCE_LIBRARY", "PYTHONPATH")}
            out = subprocess.run([sys.executable, "-c", "import hfreduce; print(hfreduce.version(), hfreduce.__file__)"], capture_output=True, text=True,
                                 env=dict(env, PYTHONPATH=os.path.join(folder, "site")), cwd=folder)
            self.assertIn("site/hfreduce/__init__.py", out.stdout, out.stderr)

    def test_missing_library(self):
        out = subprocess.run([sys.executable, "-c", "import hfreduce; hfreduce.Comm()"], capture_output=True, text=True,
                             env=dict(os.environ, PYTHONPATH=os.path.dirname(HERE), HFREDUCE_LIBRARY="/nonesuch/libhfreduce.so.0"))
        self.assertIn("ImportError: hfreduce: /nonesuch/libhfreduce.so.0: cannot open", out.stderr)
        self.assertIn("make lib", out.stderr)


if __name__ == "__main__":
    unittest.main()
