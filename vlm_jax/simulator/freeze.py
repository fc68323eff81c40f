"""`python -m vlm_jax.simulator.freeze`: writes the hash of the simulator's code beside its version.

A version is frozen once: after that its code stays, and a change is the next version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from vlm_jax.simulator import version

_TABLE = re.compile(r"^FROZEN: dict\[str, str\] = \{.*?\}$", re.MULTILINE | re.DOTALL)


def frozen_source(source: str, table: dict[str, str]) -> str:
    """The text of version.py with `table` as FROZEN."""
    rows = ", ".join(f'"{name}": "{digest}"' for name, digest in table.items())
    changed, n = _TABLE.subn(f"FROZEN: dict[str, str] = {{{rows}}}", source)
    if n != 1:
        raise ValueError("version.py has no FROZEN table on a line of its own")
    return changed


def main() -> int:
    """Exit code 0 when the version is frozen as its code is, 2 where it is frozen as something else."""
    if (wrong := version.complaint()) is not None:
        print(f"vlm-jax: error: {wrong}", file=sys.stderr)
        return 2
    name, digest = version.SIMULATOR_VERSION, version.code_hash()
    if name not in version.FROZEN:
        path = Path(version.__file__)
        path.write_text(frozen_source(path.read_text(encoding="utf-8"), {**version.FROZEN, name: digest}), "utf-8")
    print(f"simulator {name} is frozen as {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
