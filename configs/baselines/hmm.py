"""The hidden Markov model of navigation sentences: `configs/baselines/hmm.py:[PRESET]`. Fitted, not trained.

Presets: full (the default), tiny.
KNOWN: an HMM was compared with the navigation networks (Bieck et al. 2020). OURS: what its states emit, how it is
fitted (docs in vlm_jax/models/baselines/hmm.py), the number of states.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.presets import choose
from vlm_jax.config.schema import Config

STILL = ("rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue")


def full() -> ConfigDict:
    """128 hidden states over all training descriptions.

    Command: vlm-jax train --config configs/baselines/hmm.py --workdir runs/hmm --config.data.path=DIR
    Expect: the descriptions that it has seen, in the order in which they tend to follow.
    Hardware and time: one CPU core; minutes for a few thousand descriptions.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="hmm", system="hmm")))
    config.tasks = ("describe", "anticipate")
    config.data.update(image_size=16, target_length=40)  # no image is read
    config.augment.update(dict.fromkeys(STILL, 0.0), flip=0.5)  # every sequence is read in its mirror image, too
    config.model.hmm.update(states=128, sentences=8192)
    # The most probable sentence as a whole: the sum of its log-probabilities, not their mean.
    config.eval.update(decode="beam", beam=4, beam_length_penalty=0.0)
    return config


def tiny() -> ConfigDict:
    """64 hidden states, for the simulator's small set; named hmm@tiny.

    Command: vlm-jax train --config configs/baselines/hmm.py:tiny --workdir runs/hmm_tiny --config.data.path=DIR
    Expect: as full.
    Hardware and time: one CPU core, seconds.
    """
    config = full()
    config.name = "hmm@tiny"
    config.data.update(vocab_size=2048, prompt_length=48)
    config.model.hmm.update(states=64, sentences=1024)
    return config


PRESETS = {"full": full, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of a preset; nothing means full.

    Raises:
      UserError: an unknown preset.
    """
    return choose(PRESETS, arg)
