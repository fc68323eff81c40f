"""timm's models as oracles. timm imports torchvision, of which PyPI has no build for torch's CPU one: stand-ins do."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

_MODULES = ("ops.misc", "ops", "transforms.functional", "transforms", "datasets", "models.feature_extraction", "models")


def _stand_ins() -> dict[str, Any]:
    """What timm takes from torchvision at its import: one layer, and transforms that no model uses."""
    found: dict[str, Any] = {f"torchvision.{name}": MagicMock(__path__=[]) for name in _MODULES}
    found["torchvision"] = MagicMock(__path__=[])
    for name, module in found.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(found[parent], last, module)
    found["torchvision.ops.misc"].FrozenBatchNorm2d = type("FrozenBatchNorm2d", (torch.nn.Module,), {})
    return found


def timm_models() -> ModuleType:
    """The module `timm.models`; the test is skipped where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: make setup-dev")
    if "timm.models" not in sys.modules:
        stand_ins = {} if "torchvision" in sys.modules else _stand_ins()
        sys.modules.update(stand_ins)
        try:
            importlib.import_module("timm.models")
        finally:
            for name in stand_ins:
                del sys.modules[name]
    return sys.modules["timm.models"]


def vision_transformer(width: int, layers: int, heads: int, patch: int, image_size: int, n_classes: int = 0) -> Any:
    """timm's ViT, whose names MAE's encoder shares; `forward_features` gives its final hidden states [B, 1 + P, D]."""
    sizes = {"embed_dim": width, "depth": layers, "num_heads": heads, "patch_size": patch, "img_size": image_size}
    return timm_models().VisionTransformer(**sizes, num_classes=n_classes).eval()
