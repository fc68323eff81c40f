"""Rules of image networks: their stages, and the transformer that reads one."""

from __future__ import annotations

import pytest

from vlm_jax.config.load import from_dict, load_config
from vlm_jax.errors import UserError


def test_a_backbone_names_its_stages():
    assert from_dict({"model": {"backbone": {"depths": [1, 1, 1, 1]}}}).model.backbone.depths == (1, 1, 1, 1)
    for wrong in ({"depths": [1, 1]}, {"depths": [1, 1, 1, 0]}, {"name": "efficientnet_lite0", "depths": [1, 1, 1, 1]}):
        with pytest.raises(UserError, match="model.backbone.depths"):
            from_dict({"model": {"backbone": wrong}})
    with pytest.raises(UserError, match="model.backbone.std"):
        from_dict({"model": {"backbone": {"std": [1.0, 1.0, 0.0]}}})


@pytest.mark.parametrize(
    ("spec", "overrides", "says"),
    [
        ("configs/vlm.py:tiny", {"model.image_encoder.patch": "16"}, "patch' must be 32 with stem=backbone, got 16"),
        ("configs/vlm.py:tiny", {"data.image_size": "80"}, r"'data.image_size' \(80\) must be divisible by"),
        ("configs/vlm.py:tiny", {"model.image_encoder.stem": "conv"}, "must be one of patch, backbone"),
        ("configs/pretrain/mae.py:tiny", {"model.image_encoder.stem": "backbone"}, "must be patch with system=mae"),
        ("configs/pretrain/mae.py:tiny", {"model.region_width": "8"}, "'model.region_width' is not for mae"),
        (
            "configs/vlm.py:tiny",
            {"model.region_width": "8", "model.backbone.name": "swin_t", "model.backbone.depths": ""},
            "which swin_t does not hand out",
        ),
    ],
)
def test_the_hybrid_needs_a_place_for_each_patch(spec, overrides, says):
    with pytest.raises(UserError, match=says):
        load_config(spec, overrides)
