"""Rules of the remedies for rare classes and for structured text, each of which stands alone in a comparison."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_jax.config.schema import Config

UNCORRECTED = {"data.sampling": "uniform", "loss.landmarks": "bce", "loss.logit_adjustment": 0.0}
"""Settings that correct for rare classes, and the value at which each does nothing."""


def corrections(config: Config) -> list[str]:
    """What corrects for rare classes in this run, as `key=value`."""
    set_to = {
        "data.sampling": config.data.sampling,
        "loss.landmarks": config.loss.landmarks,
        "loss.logit_adjustment": config.loss.logit_adjustment,
    }
    return [f"{key}={value}" for key, value in set_to.items() if value != UNCORRECTED[key]]


def remedy_rules(config: Config) -> Iterator[str]:
    """Yields one line a problem."""
    if len(found := corrections(config)) > 1:
        yield (
            f"rare classes are corrected for twice ({', '.join(found)}), which overshoots and cannot be calibrated: "
            "keep one"
        )
    if config.data.frames > 1 and config.system != "vlm":
        yield f"config key 'data.frames' is {config.data.frames}, but {config.system} sees one frame; set it to 1"
    if config.model.condition_on_landmarks and not {"landmarks", "describe"} <= set(config.tasks):
        yield "config key 'model.condition_on_landmarks' needs the tasks landmarks and describe"
    if config.model.condition_on_landmarks and config.system != "vlm":
        yield f"config key 'model.condition_on_landmarks' is not for {config.system}; unset it"
