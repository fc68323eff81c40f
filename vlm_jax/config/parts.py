"""Which parts of `model` a system has: the sizes of the others need not fit one another."""

from __future__ import annotations

from vlm_jax.config.schema import Config

_VLM = ("image_encoder", "text_encoder", "decoder", "fusion")
PARTS: dict[str, tuple[str, ...]] = {
    "vlm": _VLM,
    "landmark_cnn": (),
    "surgical_gpt": ("gpt",),  # and, with ViT's tokens, the image encoder
    "navigation_seq2seq": ("seq2seq",),
    "keyword_report": ("seq2seq",),
    "hmm": (),
    "mae": ("image_encoder",),
    "mlm": ("text_encoder",),
}
"""System -> those of `SIZED` that it is made of."""
SIZED = (*_VLM, "gpt", "seq2seq")


def asks_for_places(config: Config) -> bool:
    """Whether training looks at masks: the model marks landmarks' places, and learns landmarks from an image."""
    model = config.model
    return config.system == "vlm" and model.region_width > 0 and "landmarks" in config.tasks and not model.no_image


def concerns(config: Config, *keys: str) -> bool:
    """Whether all of these settings are of parts that the system has; settings outside `SIZED` always are."""
    has = PARTS.get(config.system, SIZED)
    if config.system == "surgical_gpt" and config.model.gpt.vision == "vit":
        has = (*has, "image_encoder")
    return not any(key.startswith(f"model.{part}") for key in keys for part in SIZED if part not in has)
