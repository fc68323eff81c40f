"""The demo: its stages, what it says when one fails, and its closing table."""

from __future__ import annotations

import argparse
import json

import pytest

from vlm_jax import cli
from vlm_jax.commands import demo
from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError


def _args(tmp_path, run_command, *words):
    _, args = cli.parse(["demo", "--workdir", str(tmp_path), *words])
    args.run_command = run_command
    return args


def test_stages_are_commands_that_parse(tmp_path):
    args = _args(tmp_path, None, "--procedures", "6", "--config.train.steps=3", "--config.data.split=kfold:2:0")
    stages = dict(demo.stages(args, tmp_path))
    assert list(stages) == ["simulate", "train", "evaluate", "predict"]
    for words in stages.values():
        cli.parse(words)
    _, train = cli.parse(stages["train"])
    config = load_config(train.config, train.overrides)
    assert (config.name, config.train.steps, config.data.split) == ("tiny-places", 3, "kfold:2:0")
    assert config.model.region_width == 64
    assert config.data.path == (str(tmp_path / "data"),)
    assert (config.data.vocab_size, config.optim.lr) == (768, 2e-3)
    assert stages["evaluate"][-2:] == ["--contexts", "gold"]
    _, simulate = cli.parse(stages["simulate"])
    assert simulate.procedures in (6, "6") and simulate.out == str(tmp_path / "data")


def test_another_config_keeps_its_own_settings(tmp_path):
    args = _args(tmp_path, None, "--config", "configs/vlm.py:micro")
    _, train = cli.parse(dict(demo.stages(args, tmp_path))["train"])
    config = load_config(train.config, train.overrides)
    assert (config.train.steps, config.data.vocab_size) == (20, 1024)
    args = _args(tmp_path, None, "--config.eval.contexts=gold,empty")
    assert "--contexts" not in dict(demo.stages(args, tmp_path))["evaluate"], "what was asked for counts"


@pytest.mark.parametrize("outcome", [3, UserError("no space")])
def test_a_stage_that_fails_names_itself_and_how_to_go_on(tmp_path, capsys, outcome):
    ran = []

    def run_command(argv):
        ran.append(argv[0])
        if argv[0] != "train":
            return 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    args = _args(tmp_path, run_command)
    if isinstance(outcome, int):
        assert demo.run(args) == outcome
    else:
        with pytest.raises(UserError):
            demo.run(args)
    assert ran == ["data", "train"]
    assert f"the stage 'train' stopped; `vlm-jax demo --workdir {tmp_path}` goes on" in capsys.readouterr().err


def test_it_says_how_to_score_the_other_contexts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "summary", lambda workdir: "")
    monkeypatch.setattr("vlm_jax.inference.examples.write_examples", lambda *of: None)
    said = f"`vlm-jax evaluate --workdir {tmp_path} --split test`"
    assert demo.run(_args(tmp_path, lambda argv: 0)) == 0
    assert said in capsys.readouterr().out
    assert demo.run(_args(tmp_path, lambda argv: 0, "--config.eval.contexts=gold")) == 0
    assert said not in capsys.readouterr().out, "it would score the same again"


def test_what_to_run_again_says_what_was_given(tmp_path, capsys):
    args = _args(tmp_path, lambda argv: 1, "--procedures", "6", "--config.train.steps=3")
    assert demo.run(args) == 1
    assert (
        f"`vlm-jax demo --workdir {tmp_path} --procedures 6 --config.train.steps=3` goes on" in capsys.readouterr().err
    )


def test_the_whole_demo_in_small_and_again(tmp_path, capsys, monkeypatch):
    """micro for tiny, few steps and frames: every stage really runs, and a second run finds all of it done."""
    monkeypatch.setattr("vlm_jax.evaluation.run.minilm", lambda: None)  # 22 M parameters, for nothing here
    monkeypatch.setattr(demo, "SIMULATE", "--activities_per_procedure 12 --frames_per_procedure 12 --image_size 32")
    words = ["demo", "--workdir", str(tmp_path), "--config", "configs/vlm.py:micro", "--procedures", "6"]
    words += ["--config.train.steps=2", "--config.checkpoint.every=2", "--config.eval.every=0"]
    words += ["--config.eval.bootstrap=20", "--config.eval.contexts=gold"]
    assert cli.main(words) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "fess / landmarks" in out and "f1_macro" in out and "report.html" in out and "0.jpg" in out
    metrics = json.loads((tmp_path / "eval" / "test" / "metrics.json").read_text())
    assert "fess/landmarks/f1_macro" in metrics
    rows = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert rows and not any({"current", "description", "report_sentence"} & set(row) for row in rows)
    before = (tmp_path / "eval" / "test" / "metrics.json").read_bytes()
    assert cli.main(words) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (tmp_path / "eval" / "test" / "metrics.json").read_bytes() == before


def test_help_says_what_the_demo_is():
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert parser.parse_args([]).workdir == "runs/demo"
