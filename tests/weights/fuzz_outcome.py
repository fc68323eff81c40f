"""What must hold of every file of weights that is read, however hostile: refused in one line, or read to the bit."""

from __future__ import annotations

import contextlib
import signal
import sys

import numpy as np

from vlm_jax.errors import UserError
from vlm_jax.weights.importer import import_weights
from vlm_jax.weights.readers import read_weights

SECONDS = 10


class Hung(Exception):
    """A file took longer than `SECONDS`."""


@contextlib.contextmanager
def time_limit():
    def stop(*_):
        raise Hung(f"over {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Watch:
    """Notes everything that Python audits while files are read: started programs, evaluated code, written files."""

    HARMFUL = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "exec",
               "compile", "os.remove", "os.rename", "os.mkdir", "socket.connect", "shutil.")  # fmt: skip

    def __init__(self):
        self.active = False
        self.events = []
        sys.addaudithook(self._hook)

    def _hook(self, event, args):
        if not self.active:
            return
        writing = event == "open" and isinstance(args[1], str) and any(c in args[1] for c in "wax+")
        if writing or event.startswith(self.HARMFUL):
            self.events.append((event, str(args)[:200]))


def outcome(path, allowed, watch):
    """`refused` by the reader, `refused by the importer`, or `exact`; anything else is an assertion that fails.

    A file may be imported only as what was in it: every name, shape, type and value of `allowed`, and nothing besides.
    """
    watch.active = True
    try:
        with time_limit():
            found = read_weights(path)
            arrays = {name: np.array(array) for name, array in found.arrays.items()}
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error), error
        return "refused"
    finally:
        watch.active = False
    assert allowed is not None, f"read as {sorted(arrays)}"
    if arrays.keys() == allowed.keys() and all(_same(arrays[name], allowed[name]) for name in allowed):
        return "exact"
    try:
        import_weights("bert", arrays, heads=1, layers=1)
    except UserError:
        return "refused by the importer"
    wrong = [name for name in allowed if name not in arrays or not _same(arrays[name], allowed[name])]
    raise AssertionError(f"imported in spite of {wrong}")


def _same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
