"""Flax Linen modules: the only room, with metrics, that knows flax."""

from vlm_jax.models.build import build_model, init_params
from vlm_jax.models.count import parameter_table
from vlm_jax.models.state import Cache, LayerMemory, MaskedTokens, Memory, Outputs, Reconstruction
from vlm_jax.models.vlm import PROMPT_ROWS, Vlm

__all__ = [
    "PROMPT_ROWS",
    "Cache",
    "LayerMemory",
    "MaskedTokens",
    "Memory",
    "Outputs",
    "Reconstruction",
    "Vlm",
    "build_model",
    "init_params",
    "parameter_table",
]
