"""Whose terms a data set carries: never those of somebody else's data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vlm_jax import cli
from vlm_jax.data.store import open_dataset

NOTE = "PROCEDURE: , The nose was packed. , The septum was opened. , The wound was closed with sutures."


@pytest.fixture(params=["vocalfolds", "operative_notes", "unlabelled_frames"])
def own(request, tmp_path):
    """(source, folder) of somebody's own data."""
    root = tmp_path / "own"
    image = Image.fromarray(np.full((48, 48, 3), (200, 60, 50), np.uint8))
    for folder in ("img/p1/s1", "annot/p1/s1", "frames"):
        (root / folder).mkdir(parents=True)
    if request.param == "operative_notes":
        (root / "notes.jsonl").write_text(json.dumps({"note_ids": ["n1"], "text": NOTE}) + "\n", encoding="utf-8")
        return request.param, root
    if request.param == "unlabelled_frames":
        image.save(root / "frames/a-frame-1.jpg")
        return request.param, root / "frames"
    image.save(root / "img/p1/s1/0001.jpg")
    Image.fromarray(np.full((48, 48), 2, np.uint8)).save(root / "annot/p1/s1/0001.png")
    return request.param, root


def built(own, out, *flags):
    source, root = own
    assert cli.main(["data", "build", "--source", source, "--input", str(root), "--out", str(out), *flags]) == 0
    return open_dataset(out).info


def test_without_a_word_nothing_is_said(own, tmp_path):
    info = built(own, tmp_path / "d")
    assert (info.licence, info.citation) == ("", "")
    assert "Licence: not stated." in (tmp_path / "d/README.md").read_text(encoding="utf-8")


def test_what_lies_beside_the_data_is_said_and_the_users_words_go_before_it(own, tmp_path):
    (own[1] / "LICENSE").write_text("\nAttribution 4.0 International\n\n=====\n", encoding="utf-8")
    published = built(own, tmp_path / "d")
    assert published.licence == "Attribution 4.0 International"
    assert ("Laves" in published.citation) == (own[0] == "vocalfolds")
    if own[0] == "operative_notes":
        one = built((own[0], own[1] / "notes.jsonl"), tmp_path / "one")
        assert one.licence == "", "what else lies in the folder of a file may be anybody's"
    said = built(own, tmp_path / "e", "--licence", "in-house only", "--citation", "us")
    assert (said.licence, said.citation) == ("in-house only", "us")
