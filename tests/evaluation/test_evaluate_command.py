"""`vlm-jax evaluate`: where results go, what is printed, which mistakes are one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vlm_jax import cli
from vlm_jax.commands.evaluate import _base


@pytest.fixture
def workdir(tmp_path, monkeypatch, echo):
    """A work directory whose checkpoint is the echo system."""
    asked = []

    def load(path, step, *, settings):
        assert not settings  # none is given here; tests/inference/test_load.py gives some
        asked.append((path, step))
        return echo

    monkeypatch.setattr("vlm_jax.decoding.system.System.from_checkpoint", load)
    (tmp_path / "run").mkdir()
    return tmp_path / "run", asked


def test_results_go_into_the_work_directory(workdir, capsys):
    path, asked = workdir
    assert cli.main(["evaluate", "--workdir", str(path), "--step", "last", "--contexts", "gold"]) == 0
    assert asked == [(str(path), "last")]
    assert {p.name for p in (path / "eval" / "test").iterdir()} == {"metrics.json", "predictions.jsonl", "report.html"}
    out = capsys.readouterr().out
    assert "toy / landmarks" in out and "trivial: most_frequent" in out


def test_json_goes_to_stdout_alone(workdir, capsys):
    path, _ = workdir
    arguments = ["evaluate", "--checkpoint", str(path / "checkpoints" / "5"), "--split", "validation", "--json"]
    assert cli.main([*arguments, "--contexts", "gold"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((path / "eval" / "validation" / "metrics.json").read_text())


def test_other_data_and_another_place(workdir, data_paths, tmp_path, capsys):
    path, _ = workdir
    arguments = ["evaluate", "--workdir", str(path), "--data", str(data_paths[1]), "--out", str(tmp_path / "there")]
    assert cli.main([*arguments, "--json"]) == 0
    assert {k.split("/")[0] for k in json.loads(capsys.readouterr().out)} == {"notes"}
    assert (tmp_path / "there" / "report.html").is_file() and not (path / "eval").exists()


def test_rules_of_sources_that_are_not_given_are_for_nobody(workdir, data_paths, echo, monkeypatch, tmp_path, capsys):
    path, _ = workdir
    data = dataclasses.replace(echo.config.data, split="toy=kfold:2:0,notes=kfold:2:0", group_by="toy=patient")
    monkeypatch.setattr(echo, "config", dataclasses.replace(echo.config, data=data))
    arguments = ["evaluate", "--workdir", str(path), "--data", str(data_paths[1]), "--out", str(tmp_path / "there")]
    assert cli.main(arguments) == 2
    assert "unknown source 'toy'" in capsys.readouterr().err, "of a source that was not trained on"
    echo.meta["sources"] = {"toy": {}, "notes": {}}
    assert cli.main([*arguments, "--json"]) == 0
    assert {k.split("/")[0] for k in json.loads(capsys.readouterr().out)} == {"notes"}


def test_other_data_that_the_runs_rule_does_not_fit_can_be_scored_whole(workdir, other_site, capsys):
    path, _ = workdir
    assert cli.main(["evaluate", "--workdir", str(path), "--data", other_site("p101")]) == 2
    said = capsys.readouterr().err
    assert "there is one: to score other data whole, use --split all" in said and "take" not in said


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_scored(workdir, monkeypatch, echo, capsys):
    path, _ = workdir
    monkeypatch.setattr("os.access", lambda place, mode: False)
    assert cli.main(["evaluate", "--workdir", str(path)]) == 2
    assert f"no permission to write in '{path}'" in capsys.readouterr().err and not echo.batches


def test_data_of_another_site_are_scored_whole_beside_what_the_training_data_teach(workdir, other_site, tmp_path):
    path, _ = workdir
    words = ["evaluate", "--checkpoint", str(path), "--data", other_site("p101", "p102"), "--split", "all"]
    assert cli.main([*words, "--contexts", "gold", "--out", str(tmp_path / "there")]) == 0
    metrics = json.loads((tmp_path / "there" / "metrics.json").read_text())
    f1 = metrics["toy/landmarks/f1_macro"]
    assert (f1["n_units"], f1["n_groups"]) == (24, 2)
    # Markov's answers are sentences of training: no text of these two patients alone could give this score.
    assert metrics["toy/describe/trivial/markov/bleu2"]["value"] > 0
    shares = {k: e["value"] for k, e in metrics.items() if k.startswith("toy/landmarks/trivial/prior/")}
    assert any(shares.values())


@pytest.mark.parametrize("used", ["patient-p101", "p101"])  # what was split by: patients, or procedures
def test_groups_that_were_trained_on_are_not_another_site_s(workdir, other_site, echo, used, capsys):
    path, _ = workdir
    level = {"level": "procedure"} if used == "p101" else {}  # checkpoints of before do not say
    echo.meta["sources"] = {"toy": level | {"groups": {"train": [used], "validation": []}}}
    assert cli.main(["evaluate", "--checkpoint", str(path), "--data", other_site("p101"), "--split", "all"]) == 2
    assert f"toy holds groups that the checkpoint was trained or validated on: {used}" in capsys.readouterr().err


def test_without_the_training_data_a_notice_says_what_is_missing(workdir, other_site, echo, monkeypatch, capsys):
    path, _ = workdir
    gone = dataclasses.replace(echo.config, data=dataclasses.replace(echo.config.data, path=("/gone",)))
    monkeypatch.setattr(echo, "config", gone)
    words = ["evaluate", "--checkpoint", str(path), "--data", other_site("p101"), "--split", "all"]
    assert cli.main([*words, "--contexts", "gold"]) == 0
    assert "no trivial text scores, prior or tf-idf" in capsys.readouterr().err
    metrics = json.loads((path / "eval" / "all" / "metrics.json").read_text())
    assert "toy/describe/bleu2" in metrics and not any("trivial/markov" in key for key in metrics)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "--workdir --checkpoint"),
        (["--workdir", "X", "--contexts", "silver"], "unknown context 'silver'"),
        (["--workdir", "X", "--split", "tests"], "invalid choice: 'tests'"),
        (["--workdir", "X", "--split", "all"], "name other data with --data DIR"),
        (["--workdir", "X", "--data", "/nowhere"], "'/nowhere' does not exist"),
    ],
)
def test_mistakes_are_one_line(workdir, capsys, arguments, line):
    assert cli.main(["evaluate", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert line in said and len(said.splitlines()) == 1


def test_no_checkpoint_is_one_line(tmp_path, capsys):
    assert cli.main(["evaluate", "--workdir", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_notices_are_said(workdir, monkeypatch, run_data, capsys):
    path, _ = workdir
    data = dataclasses.replace(run_data, notices=["this split is optimistic"])
    monkeypatch.setattr("vlm_jax.data.run_data.RunData.open", lambda *a, **k: data)
    assert cli.main(["evaluate", "--workdir", str(path), "--contexts", "gold"]) == 0
    assert "this split is optimistic" in capsys.readouterr().err
    assert "this split is optimistic" in (path / "eval" / "test" / "report.html").read_text()


def test_the_work_directory_of_a_step():
    assert _base(Path("w/checkpoints/7")) == _base(Path("w/checkpoints")) == _base(Path("w")) == Path("w")
