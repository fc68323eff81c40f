"""`python -m vlm_jax COMMAND`: the same as `vlm-jax COMMAND`, for launchers that start a module."""

from __future__ import annotations

import sys

from vlm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
