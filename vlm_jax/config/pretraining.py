"""Settings of pre-training: its objectives, its systems, and the rules between them."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_jax.config.schema import Config

PRETRAINING = {"reconstruct": "mae", "mask_language": "mlm"}
"""Objective -> the system that it trains, and that no other task can."""
PRETRAINED_PART = {"reconstruct": "image_encoder", "mask_language": "text_encoder"}
"""Objective -> the part of its system that other models start from, by model.PART.init."""


def pretraining_rules(config: Config) -> Iterator[str]:
    """An objective of pre-training stands alone, with its own system."""
    objectives = [task for task in config.tasks if task in PRETRAINING]
    for task in objectives:
        if config.tasks != (task,) or config.system != PRETRAINING[task]:
            yield (
                f"config key 'tasks': {task} stands alone and needs system={PRETRAINING[task]}, got "
                f"{'+'.join(config.tasks)} with system={config.system}: use configs/pretrain/{PRETRAINING[task]}.py"
            )
    for task, system in PRETRAINING.items():
        if config.system == system and not objectives:
            yield f"config key 'tasks' must be {task} with system={system}, got {', '.join(config.tasks)}"
    if config.augment.crop and config.tasks != ("reconstruct",):
        yield "config key 'augment.crop' is for tasks=reconstruct alone: a crop may cut out what a label or text names"
    if config.system == "mae":
        mae, image = config.model.mae, config.model.image_encoder
        for key, value, divisor in (
            ("model.image_encoder.width", image.width, 4),
            ("model.mae.decoder_width", mae.decoder_width, 4),
            ("model.mae.decoder_width", mae.decoder_width, mae.decoder_heads),
        ):
            if value % divisor:
                why = "the 2-D positions" if divisor == 4 else f"model.mae.decoder_heads ({divisor})"
                yield f"config key {key!r} ({value}) must be divisible by {divisor}, for {why}"
        patches = (config.data.image_size // image.patch) ** 2
        if not 0 < int(patches * (1 - mae.mask_ratio)) < patches:
            yield f"config key 'model.mae.mask_ratio' ({mae.mask_ratio}) leaves none or all of the {patches} patches"
