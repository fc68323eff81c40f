"""The card of a data set, and masks and depth maps beside its images."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Sentence
from vlm_jax.data.store import open_dataset, write_dataset
from vlm_jax.errors import UserError
from vlm_jax.simulator.pictures import hundredths, png


def test_the_card_says_what_is_in_the_set_and_how_it_was_made(toy, tmp_path):
    info = dataclasses.replace(
        toy.INFO, generator={"name": "sim", "simulator": "v1-abc", "config": {"seed": 3, "world": "normal"}}
    )
    out = toy.write(tmp_path / "d", info=info)
    card = (out / "README.md").read_text()
    assert card.startswith("# toy (simulated, v1-abc)\n") and "no patient is shown" in card
    assert "| frames | 12 |" in card and "| of them assessable | 9 |" in card and "| words a sentence | 2.00 |" in card
    assert card.index("| septum | 75.0% |") < card.index("| middle concha | 66.7% |")
    assert "| `seed` | `3` |" in card and "| `simulator` | `v1-abc` |" in card
    assert "Licence: none." in card and "Cite: us" in card and str(tmp_path) not in card


def test_the_card_of_real_texts(tmp_path):
    info = DatasetInfo(source="notes", world="real", keywords=("a",))

    def make(id):
        return ProcedureBundle(Procedure(id, id, "notes"), sentences=(Sentence(f"{id}/0", id, "One two.", "a"),))

    write_dataset(tmp_path / "d", info, ["n1"], make, progress=False)
    card = (tmp_path / "d" / "README.md").read_text()
    assert card.startswith("# notes (real)\n") and "not stated" in card and "simulated" not in card
    assert "## Labels" not in card and "## How" not in card and "| words a description | - |" in card


def with_extras(toy, extras):
    """The toy's maker with masks and depth maps in its frames."""
    mask = png(np.arange(16, dtype=np.uint8).reshape(4, 4))
    depth = png(hundredths(np.linspace(0, 700, 16).reshape(4, 4)))

    def make(id):
        made = toy.bundle(id)
        more = {name: value for name, value in (("mask", mask), ("depth", depth)) if name in extras}
        return dataclasses.replace(made, frames=[dataclasses.replace(f, **more) for f in made.frames])

    return make


def test_masks_and_depth_lie_beside_the_images_as_tfds_reads_them(toy, tmp_path):
    info = dataclasses.replace(toy.INFO, extras=("mask", "depth"))
    out = toy.write(tmp_path / "d", with_extras(toy, info.extras), info)
    assert open_dataset(out).info.extras == ("mask", "depth") and "`depth`: PNG" in (out / "README.md").read_text()
    script = """
import sys, json, tensorflow_datasets as tfds
row = tfds.builder_from_directory(sys.argv[1]).as_data_source('frames')[3]
assert 'tensorflow' not in sys.modules
print(json.dumps([[str(row[k].dtype), row[k].ravel().tolist()] for k in ('mask', 'depth')]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    (kind, mask), (deep, depth) = json.loads(done.stdout.splitlines()[-1])
    assert (kind, mask) == ("uint8", list(range(16))) and deep == "uint16"
    assert depth == [0, *np.clip(np.rint(np.linspace(0, 700, 16)[1:] * 100), 0, 65535).astype(int).tolist()]


@pytest.mark.parametrize(
    ("carried", "said", "message"),
    [(("mask",), (), "mask is not in"), ((), ("depth",), "depth is in"), (("mask",), ("mask", "depth"), "depth is in")],
)
def test_extras_that_do_not_hold_are_refused(toy, tmp_path, carried, said, message):
    with pytest.raises(UserError, match=message):
        toy.write(tmp_path / "d", with_extras(toy, carried), dataclasses.replace(toy.INFO, extras=said))


def test_a_mask_must_be_a_png(toy, tmp_path):
    def make(id):
        made = toy.bundle(id)
        return dataclasses.replace(made, frames=[dataclasses.replace(f, mask=b"\xff\xd8") for f in made.frames])

    with pytest.raises(UserError, match="not a PNG"):
        toy.write(tmp_path / "d", make, dataclasses.replace(toy.INFO, extras=("mask",)))


def test_depth_is_zero_where_it_is_not_known():
    depth = np.array([[np.nan, np.inf, -1.0, 0.0], [0.001, 1.234, 655.35, 9999.0]])
    assert hundredths(depth).tolist() == [[0, 0, 0, 0], [1, 123, 65535, 65535]]
    back = cv2.imdecode(np.frombuffer(png(hundredths(depth)), np.uint8), cv2.IMREAD_UNCHANGED)
    assert back.dtype == np.uint16 and (back == hundredths(depth)).all()
