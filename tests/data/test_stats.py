"""The figures of a data set, by hand; and the commands that build and describe one."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from vlm_jax import cli
from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Sentence
from vlm_jax.data.stats import dataset_stats
from vlm_jax.data.store import open_dataset, write_dataset


def test_figures_of_frames(toy, tmp_path):
    stats = dataset_stats(open_dataset(toy.write(tmp_path / "d")))
    assert stats["records"] == stats["frames"] == 12 and stats["assessable_frames"] == 9
    assert (stats["procedures"], stats["patients"], stats["videos"], stats["activities"]) == (3, 3, 3, 6)
    # Of four frames the second label is not known in the first, and present in two of the other three.
    assert stats["landmark_prevalence"] == {"septum": 0.75, "middle concha": pytest.approx(2 / 3)}
    assert (stats["report_sentences"], stats["words_per_sentence"], stats["sentences_per_report"]) == (3, 2.0, 1.0)
    assert (stats["descriptions"], stats["words_per_description"]) == (1, 2.0)
    assert (stats["keywords"], stats["keywords_used"], stats["frames_in_activities"]) == (1, 1, 12)


def test_settings_and_frames_that_show_nothing(toy, tmp_path, capsys):
    generator = {"name": "sim", "simulator": "v1-abc", "config": {"seed": 3, "stress": False}}
    out = toy.write(tmp_path / "d", info=dataclasses.replace(toy.INFO, generator=generator))
    stats = dataset_stats(open_dataset(out))
    assert stats["unassessable_frames"] == 3 and stats["simulator"] == "v1-abc" and stats["generator"] == generator
    assert cli.main(["data", "stats", str(out)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"setting seed +3\n", table) and re.search(r"setting stress +False\n", table)
    assert re.search(r"simulator +v1-abc\n", table) and "{" not in table


def test_figures_without_frames(tmp_path):
    info = DatasetInfo(source="notes", world="real", labels=("septum",), keywords=("a", "b"))
    texts = ("One two three.", "Four.")

    def make(id):
        rows = tuple(Sentence(f"{id}/{i}", id, text, "a") for i, text in enumerate(texts))
        return ProcedureBundle(Procedure(id, "same", "notes"), sentences=rows)

    write_dataset(tmp_path / "d", info, ["n1", "n2"], make, progress=False)
    stats = dataset_stats(open_dataset(tmp_path / "d"))
    assert (stats["records"], stats["frames"], stats["patients"]) == (4, 0, 1)
    assert stats["landmark_prevalence"] == {"septum": None} and stats["words_per_description"] is None
    assert (stats["words_per_sentence"], stats["keywords"], stats["keywords_used"]) == (2.0, 2, 1)


def test_stats_command(toy, tmp_path, capsys):
    out = toy.write(tmp_path / "d")
    assert cli.main(["data", "stats", str(out), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    agreed = "records procedures activities landmark_prevalence report_sentences words_per_sentence keywords"
    assert set(agreed.split()) <= set(stats)
    assert cli.main(["data", "stats", str(out)]) == 0
    table = capsys.readouterr().out
    assert "words per sentence" in table and "2.00" in table
    assert table.index("frames with septum") < table.index("frames with middle concha")


def test_stats_of_what_is_not_known_are_a_dash(tmp_path, capsys):
    info = DatasetInfo(source="s", world="real", labels=("septum",))
    write_dataset(tmp_path / "d", info, ["p"], lambda id: ProcedureBundle(Procedure(id, id, "s")), progress=False)
    assert cli.main(["data", "stats", str(tmp_path / "d")]) == 0
    table = capsys.readouterr().out
    assert "words per sentence     -" in table and "frames with septum     unknown" in table


def test_build_command(tmp_path, capsys):
    root = tmp_path / "larynx"
    for part in ("img", "annot"):
        (root / part / "p1/s1").mkdir(parents=True)
    Image.new("RGB", (32, 32), (200, 90, 80)).save(root / "img/p1/s1/1.jpg")
    Image.fromarray(np.ones((32, 32), np.uint8)).save(root / "annot/p1/s1/1.png")
    command = ["data", "build", "--source", "vocalfolds", "--input", str(root), "--out", str(tmp_path / "d")]
    assert cli.main(command) == 0
    assert "1 procedures, 1 frames, 0 sentences" in capsys.readouterr().err
    assert cli.main(command) == 0  # done already
    assert open_dataset(tmp_path / "d").tables.activities[0].description == "large vocal folds centre"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"--source": "vocal_folds"}, "did you mean 'vocalfolds'"),
        ({"--input": "nowhere"}, "--input 'nowhere' does not exist"),
        ({"--input": "gs://bucket/x"}, "is remote"),
    ],
)
def test_build_command_answers_in_one_line(tmp_path, capsys, change, message):
    flags = {"--source": "vocalfolds", "--input": str(tmp_path), "--out": str(tmp_path / "d")} | change
    assert cli.main(["data", "build", *(word for pair in flags.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "d").exists()
