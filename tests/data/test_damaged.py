"""Data sets that lost a file, a row or their form: one line that says what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vlm_jax.data.store import open_dataset
from vlm_jax.errors import UserError


def test_damaged_data_sets_are_one_line(toy, tmp_path):
    def damaged(name, change):
        out = toy.write(tmp_path / name)
        change(out)
        with pytest.raises(UserError) as raised:
            open_dataset(out).read_image(0)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "is not a data set" in damaged("a", lambda d: (d / "dataset.json").unlink())
    assert "lacks 'videos.jsonl'" in damaged("b", lambda d: (d / "videos.jsonl").unlink())
    assert "line 1" in damaged("c", lambda d: (d / "videos.jsonl").write_text("{}\n"))
    assert "unknown fields" in damaged("d", lambda d: (d / "videos.jsonl").write_text('{"colour": 1}\n'))
    assert "not valid JSON" in damaged("e", lambda d: (d / "dataset.json").write_text("{"))
    assert "format 9" in damaged("f", lambda d: (d / "dataset.json").write_text('{"format": 9}'))
    assert "frames.npz' is damaged" in damaged("g", lambda d: (d / "frames.npz").write_bytes(b"no"))
    assert "videos.jsonl' is damaged" in damaged("i", lambda d: (d / "videos.jsonl").write_bytes(b'{"id": "\xe4"}\n'))
    assert "missing or damaged" in damaged("h", lambda d: next(d.glob("*00000-of*")).unlink())
    with pytest.raises(UserError, match="not a data set"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match="remote"):
        open_dataset("gs://bucket/d")


def meta(change):
    """Changes dataset.json: in place, or to what is returned."""

    def write(d):
        values = json.loads((d / "dataset.json").read_text())
        (d / "dataset.json").write_text(json.dumps(change(values) or values))

    return write


def table(name, **fields):
    """Sets fields of every row of a table."""

    def write(d):
        rows = [json.loads(line) for line in (d / name).read_text().splitlines()]
        (d / name).write_text("".join(json.dumps(row | fields) + "\n" for row in rows))

    return write


def columns(change):
    """Changes the columns of the frames."""

    def write(d):
        with np.load(d / "frames.npz") as found:
            np.savez(d / "frames.npz", **(dict(found) | change(found)))

    return write


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: (d / "dataset.json").write_text("[]"), "format None"),
        (meta(lambda v: {"format": v["format"]}), "damaged (KeyError: 'info')"),
        (meta(lambda v: v["info"].update(labels=5)), "labels is int, expected tuple"),
        (meta(lambda v: v["shards"][0].pop("records") and None), "is damaged (KeyError: 'records')"),
        (table("activities.jsonl", t0="soon"), "t0 is str, expected int"),
        (table("sentences.jsonl", text=None), "text is None, expected str"),
        (columns(lambda c: {k: v[:5] for k, v in c.items()}), "has 5 frames in its table, 12 in shards"),
        (columns(lambda c: {"video": c["video"][:3]}), "video is not of 12 frames"),
        (columns(lambda c: {"visible": c["visible"][:, :1]}), "visible is not of 12 frames and 2 labels"),
    ],
)
def test_metadata_of_a_wrong_form_are_one_line(toy, tmp_path, change, says):
    out = toy.write(tmp_path / "d")
    change(out)
    with pytest.raises(UserError) as raised:
        open_dataset(out)
    assert says in str(raised.value) and "\n" not in str(raised.value)
