"""The settings that a trained model may be asked with anew: how it writes its answers, and how they are scored."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_jax.config.load import Overrides, with_overrides
from vlm_jax.config.schema import Config
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

ANSWERING = (
    "eval.decode",
    "eval.beam",
    "eval.beam_decay",
    "eval.beam_length_penalty",
    "eval.samples",
    "eval.temperature",
    "eval.batch_size",
    "eval.bootstrap",
    "eval.contexts",
)
"""All other settings shaped the parameters, the thresholds or the calibration, and stand in the checkpoint."""


def answering(config: Config, overrides: Overrides) -> Config:
    """A checkpoint's settings with some of `ANSWERING` changed; values as on the command line, or plain numbers.

    Raises:
      UserError: another key, or a value that is out.
    """
    pairs = [(key, str(raw)) for key, raw in (overrides.items() if isinstance(overrides, Mapping) else overrides)]
    for key, _ in pairs:
        if key not in ANSWERING:
            raise UserError(
                f"config key {key!r}{suggest(key, ANSWERING)} stands in the checkpoint: what can be changed there is "
                + ", ".join(ANSWERING)
            )
    return with_overrides(config, pairs) if pairs else config
