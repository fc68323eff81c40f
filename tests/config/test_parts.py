"""A rule about sizes holds for the systems that have these parts, and for no other."""

from __future__ import annotations

import pytest

from vlm_jax.config.load import load_config
from vlm_jax.config.parts import PARTS, SIZED
from vlm_jax.errors import UserError
from vlm_jax.models.build import SYSTEMS

BASELINES = "configs/baselines"
UNSUITED = {
    "image_encoder": {"data.image_size": "60", "model.image_encoder.patch": "16"},
    "text_encoder": {"model.text_encoder.width": "128", "model.text_encoder.heads": "3"},
    "decoder": {"model.decoder.positions": "8"},
    "fusion": {"model.image_encoder.width": "384", "model.image_encoder.heads": "6", "model.fusion_heads": "256"},
    "gpt": {"model.gpt.width": "128", "model.gpt.heads": "3"},
    "seq2seq": {"model.seq2seq.width": "128", "model.seq2seq.heads": "3"},
}
SPECS = {
    f"{BASELINES}/endovit.py:tiny": PARTS["vlm"],
    f"{BASELINES}/landmark_cnn.py:tiny": (),
    f"{BASELINES}/surgical_gpt.py:tiny": ("gpt",),
    f"{BASELINES}/surgical_gpt.py:vit": ("gpt", "image_encoder"),
    f"{BASELINES}/navigation_seq2seq.py:tiny": ("seq2seq",),
    f"{BASELINES}/keyword_report.py:tiny": ("seq2seq",),
    f"{BASELINES}/hmm.py:tiny": (),
    "configs/pretrain/mae.py:tiny": ("image_encoder",),
    "configs/pretrain/mlm.py:tiny": ("text_encoder",),
}


@pytest.mark.parametrize("part", SIZED)
@pytest.mark.parametrize("spec", SPECS)
def test_sizes_are_compared_where_they_meet(spec, part):
    if part in SPECS[spec]:
        with pytest.raises(UserError, match="must be"):
            load_config(spec, UNSUITED[part])
    else:
        load_config(spec, UNSUITED[part])


def test_every_system_says_what_it_is_made_of():
    assert PARTS.keys() == SYSTEMS.keys()
    assert all(set(parts) <= set(SIZED) for parts in PARTS.values())
