"""Navigation sentences, text to text (Bieck et al. 2020): `configs/baselines/navigation_seq2seq.py:[KIND][,SIZE]`.

Kinds: transformer (the default), lstm, encoder_decoder. Sizes: full (the default), tiny.
KNOWN: sequence to sequence from the current to the next sentence, which is `anticipate`; a transformer with Adam, label
smoothing and beam search with exponential-decay rescoring, compared with an LSTM, a plain encoder-decoder and an HMM.
OURS: `describe` (previous to current) beside it, for it has the same form; sizes, rates, length of training, beam.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from vlm_jax.config.schema import Config
from vlm_jax.config.values import suggest
from vlm_jax.errors import UserError

STILL = ("rotate", "scale", "translate", "brightness", "contrast", "saturation", "hue")


def transformer() -> ConfigDict:
    """Three post-norm layers of width 256 a side: about 6 M parameters, words included.

    Command: vlm-jax train --config configs/baselines/navigation_seq2seq.py --workdir runs/nav --config.data.path=DIR
    Expect: scores of a system that never sees the image; the published step accuracy is 0.53 on other data.
    Hardware and time: any GPU, or two CPU cores at about 0.3 s a step of 64 sentences; not measured further.
    """
    config = ConfigDict(dataclasses.asdict(Config(name="navigation_seq2seq", system="navigation_seq2seq")))
    config.tasks = ("describe", "anticipate")
    config.data.update(image_size=16, target_length=40)  # no image is read
    config.augment.update(dict.fromkeys(STILL, 0.0), flip=0.5, drop_text=0.1)
    config.model.seq2seq.update(kind="transformer", width=256, layers=3, heads=4, mlp=1024)
    config.model.dropout = 0.1
    config.loss.label_smoothing = 0.1
    config.optim.update(lr=5e-4, warmup_steps=400, weight_decay=0.0, b2=0.98, eps=1e-9)
    config.train.update(steps=8000, batch_size=64, log_every=50)
    config.checkpoint.every = 1000
    config.eval.update(every=1000, batch_size=64, decode="beam", beam=4, beam_decay=0.1)
    return config


def lstm() -> ConfigDict:
    """Two LSTM layers of width 256 a side with attention: the comparator of the same paper.

    Command: vlm-jax train --config configs/baselines/navigation_seq2seq.py:lstm --workdir runs/nav_lstm
      --config.data.path=DIR
    Expect: as the transformer; the published step accuracy is 0.35 on other data.
    Hardware and time: as the transformer.
    """
    config = transformer()
    config.name = "navigation_lstm"
    config.model.seq2seq.update(kind="lstm", layers=2)
    config.optim.update(lr=1e-3, b2=0.999, eps=1e-8)
    return config


def encoder_decoder() -> ConfigDict:
    """The same LSTMs without attention: all that the decoder knows is the encoder's last state.

    Command: vlm-jax train --config configs/baselines/navigation_seq2seq.py:encoder_decoder --workdir runs/nav_plain
      --config.data.path=DIR
    Expect: as the transformer; the published step accuracy is 0.32 on other data.
    Hardware and time: as the transformer.
    """
    config = lstm()
    config.name = "navigation_encoder_decoder"
    config.model.seq2seq.kind = "encoder_decoder"
    return config


def full(config: ConfigDict) -> ConfigDict:
    """As the kind says.

    Command: vlm-jax train --config configs/baselines/navigation_seq2seq.py:transformer,full --workdir runs/nav
      --config.data.path=DIR
    Expect: as the kind says.
    Hardware and time: as the kind says.
    """
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """Width 128, two layers a side, for the simulator's small set; names end in @tiny.

    Command: vlm-jax train --config configs/baselines/navigation_seq2seq.py:tiny --workdir runs/nav_tiny
      --config.data.path=DIR
    Expect: the simulator's sentences; how often the right one follows is bounded, for nothing is seen.
    Hardware and time: two CPU cores, 2 to 3 minutes, the LSTM with attention 5.
    """
    config.name += "@tiny"
    config.data.update(vocab_size=2048, prompt_length=48)
    config.model.seq2seq.update(width=128, layers=2, mlp=512)
    config.optim.update(lr=2e-3 if config.model.seq2seq.kind != "transformer" else 1e-3, warmup_steps=60, ema=0.99)
    config.train.update(steps=1000, batch_size=32, log_every=10)
    if config.model.seq2seq.kind == "lstm":  # learns slowly to look back: of 2e-3 and 5e-3, the lower validation loss
        config.optim.lr = 5e-3
        config.train.steps = 2000
    config.checkpoint.every = 250
    config.eval.update(every=0, batch_size=32)
    return config


KINDS = {"transformer": transformer, "lstm": lstm, "encoder_decoder": encoder_decoder}
SIZES = {"full": full, "tiny": tiny}


def get_config(arg: str = "") -> ConfigDict:
    """The settings of `[KIND][,SIZE]`; nothing means `transformer,full`.

    Raises:
      UserError: a word that is neither.
    """
    kind, size = "transformer", "full"
    for word in [part.strip() for part in arg.split(",") if part.strip()]:
        if word not in {**KINDS, **SIZES}:
            known = (*KINDS, *SIZES)
            raise UserError(f"unknown preset {word!r}{suggest(word, known)}: choose from {', '.join(known)}")
        kind, size = (word, size) if word in KINDS else (kind, word)
    return SIZES[size](KINDS[kind]())
