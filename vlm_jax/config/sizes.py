"""Rules of sizes that must fit one another."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_jax.config.parts import concerns
from vlm_jax.config.schema import Config


def size_rules(config: Config) -> Iterator[str]:
    """Yields one line a problem."""
    data, model = config.data, config.model
    image, text, decoder = model.image_encoder, model.text_encoder, model.decoder
    divisions = (
        ("data.image_size", data.image_size, "model.image_encoder.patch", image.patch),
        ("model.image_encoder.width", image.width, "model.image_encoder.heads", image.heads),
        ("model.text_encoder.width", text.width, "model.text_encoder.heads", text.heads),
        ("model.text_encoder.width", text.width, "model.decoder.heads", decoder.heads),
        ("model.text_encoder.width", text.width, "model.fusion_heads", model.fusion_heads),
        ("model.image_encoder.width", image.width, "model.fusion_heads", model.fusion_heads),
        ("model.gpt.width", model.gpt.width, "model.gpt.heads", model.gpt.heads),
        ("model.seq2seq.width", model.seq2seq.width, "model.seq2seq.heads", model.seq2seq.heads),
        ("train.batch_size", config.train.batch_size, "optim.accumulate", config.optim.accumulate),
    )
    for key, value, by, divisor in divisions:
        if value % divisor and concerns(config, key, by):
            yield f"config key {key!r} ({value}) must be divisible by {by} ({divisor})"
    lengths = (
        ("data.prompt_length", data.prompt_length, "model.text_encoder.positions", text.positions),
        ("data.target_length", data.target_length, "model.decoder.positions", decoder.positions),
    )
    for key, value, limit_key, limit in lengths:
        if value > limit and concerns(config, limit_key):
            yield f"config key {key!r} ({value}) must be at most {limit_key} ({limit}), the rows of the position table"


BACKBONE_STRIDE = 32
"""Pixels of the image to a place of the last map, of every backbone."""


def backbone_rules(config: Config) -> Iterator[str]:
    """Yields one line a problem."""
    backbone, image = config.model.backbone, config.model.image_encoder
    if image.stem == "backbone":
        if config.system != "vlm":
            yield f"config key 'model.image_encoder.stem' must be patch with system={config.system}"
        elif image.patch != BACKBONE_STRIDE:
            key = "model.image_encoder.patch"
            yield f"config key {key!r} must be {BACKBONE_STRIDE} with stem=backbone, got {image.patch}"
    if config.model.region_width:
        if config.system != "vlm":
            yield f"config key 'model.region_width' is not for {config.system}; set it to 0"
        elif image.stem == "backbone" and backbone.name == "swin_t":
            yield "config key 'model.region_width' needs maps finer than the last, which swin_t does not hand out here"
    stages = 7 if backbone.name == "efficientnet_lite0" else 4
    depths = backbone.depths
    if depths and (len(depths) != stages or min(depths) < 1):
        yield (
            f"config key 'model.backbone.depths' must be empty or {stages} numbers of at least 1 for {backbone.name}, "
            f"got {depths}"
        )
