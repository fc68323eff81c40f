"""vlm_jax: a multi-task vision-language model for endoscopic ENT surgery, in JAX and Flax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from vlm_jax.inference.load import load


def __getattr__(name: str) -> Any:
    """Imports `load` on first use, so that `import vlm_jax` stays light."""
    if name == "load":
        from vlm_jax.inference.load import load

        return load
    raise AttributeError(f"module 'vlm_jax' has no attribute {name!r}")
