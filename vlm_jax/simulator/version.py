"""The simulator's identity: its version, the hash of its code, and the hash with the settings that names a data set.

Once a version is frozen (`python -m vlm_jax.simulator.freeze`) a change of the code needs the next version. Until then
it calls itself a draft.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import tokenize
from pathlib import Path

from vlm_jax.simulator.config import SimulatorConfig

SIMULATOR_VERSION = "v1"
FROZEN: dict[str, str] = {"v1": "e93412bf46c45853"}
"""Version -> the hash of its code; written by `freeze`."""

OUTSIDE = frozenset({"version.py", "freeze.py", "forks.py", "fork_reports.py"})
"""Files that no byte of a data set depends on."""


def substance(source: str) -> str:
    """Python source without what changes nothing: comments, docstrings, blank lines, spaces at line ends."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                for k in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                    lines[k] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1]:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


@functools.cache
def code_hash() -> str:
    """16 hex digits over the code that makes a data set: data made by other code is other data."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.name not in OUTSIDE:
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{substance(path.read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()[:16]


def version_name() -> str:
    """`v1`, or `v1-draft` while the version is not frozen."""
    return SIMULATOR_VERSION if SIMULATOR_VERSION in FROZEN else f"{SIMULATOR_VERSION}-draft"


def identity(config: SimulatorConfig) -> str:
    """`v1-1a2b3c4d5e6f`: the version, and twelve digits over the code and the settings; goes wherever results go."""
    text = json.dumps([code_hash(), config.to_json()], sort_keys=True)
    return f"{version_name()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def complaint() -> str | None:
    """What is wrong where the code of a frozen version was changed; None where all is well."""
    frozen = FROZEN.get(SIMULATOR_VERSION)
    if frozen is None or frozen == code_hash():
        return None
    return (
        f"simulator {SIMULATOR_VERSION} is frozen as {frozen}, its code is now {code_hash()}: undo the change, or "
        "raise SIMULATOR_VERSION in vlm_jax/simulator/version.py and run `python -m vlm_jax.simulator.freeze`"
    )
