"""Peers: other implementations, measured in the same process, turn by turn with ours.

A peer is a Python file (benchmarks/peers/ has some) with `make_peer(kind, variant, trial) -> Peer`. It lies outside the
package, for nothing in here may import torch.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlm_jax.errors import UserError

TOLERANCE = 1e-3
"""Greatest difference of a peer's outputs from ours, relative to our greatest: else it computes something else."""


@dataclass(frozen=True)
class Peer:
    """What another implementation makes of the same job.

    Attributes:
      name: in tables.
      call: does the job once, and returns when it is done.
      outputs: what can be compared with ours before anything is timed, or None where the peer's network is another.
      note: how its job differs from ours, for the table.
    """

    name: str
    call: Callable[[], Any]
    outputs: Callable[[], np.ndarray] | None = None
    note: str = ""


def load_peers(specs: list[str], kind: str, trial: Any) -> list[Peer]:
    """The peers `FILE.py:VARIANT` for a job (`train`, `forward`, `decode`, `data`).

    Raises:
      UserError: no such file, no `make_peer` in it, or a package that it needs is not there.
    """
    return [_load(spec, kind, trial) for spec in specs]


def _load(spec: str, kind: str, trial: Any) -> Peer:
    name, _, variant = spec.partition(":")
    path = Path(name)
    if not path.is_file() or path.suffix != ".py":
        raise UserError(
            f"--peer {spec}: no Python file {name!r}; expected FILE.py:VARIANT, as benchmarks/peers/torch_vlm.py:eager"
        )
    found = importlib.util.spec_from_file_location(f"bench_peer_{path.stem}", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    try:
        found.loader.exec_module(module)
        return module.make_peer(kind, variant, trial)
    except ModuleNotFoundError as error:
        raise UserError(f"--peer {spec}: needs the package {error.name}; install the extra dev") from None
    except AttributeError as error:
        if "make_peer" not in str(error):
            raise
        raise UserError(f"--peer {spec}: {name} has no function make_peer") from None


def check_same(peer: Peer, ours: np.ndarray) -> float | None:
    """Greatest difference of the peer's outputs from ours, relative to our greatest; None where it has none to compare.

    Raises:
      UserError: the peer computes something else, so that its time would say nothing.
    """
    if peer.outputs is None:
        return None
    theirs = peer.outputs()
    difference = float(np.abs(theirs - ours).max() / max(np.abs(ours).max(), 1e-12))
    if not difference < TOLERANCE:
        raise UserError(f"{peer.name} computes something else: its outputs differ by {difference:.1e} of the greatest")
    return difference
