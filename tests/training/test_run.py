"""Starting, refusing and going on: what a work directory is claimed by, and which data it stands for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from etils import epath

from vlm_jax import cli
from vlm_jax.checkpoint import manifest
from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.config.schema import GuardConfig
from vlm_jax.contract import DatasetInfo, Procedure, ProcedureBundle, Sentence
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import write_dataset
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.evaluation.apart import check_apart, groups_of
from vlm_jax.evaluation.run import fit_thresholds
from vlm_jax.training import loop as loop_module
from vlm_jax.training import run as run_module
from vlm_jax.training.loop import train
from vlm_jax.training.preemption import EXIT_PREEMPTED, PreemptionWatch
from vlm_jax.training.run import check_budget, set_up


def preempted_at(step: int) -> type[PreemptionWatch]:
    class Watch(PreemptionWatch):
        def reached(self, now: int) -> bool:
            return now == step

    return Watch


@pytest.fixture(scope="module")
def trained(toy_path, tmp_path_factory):
    """(work directory, what was said): four steps, a signal at the last, one training record that cannot be read."""
    from vlm_jax.config.load import load_config
    from vlm_jax.data import collate as collate_module

    path = tmp_path_factory.mktemp("trained")
    said: list[str] = []
    settings = [("data.path", str(toy_path)), ("data.split", "kfold:3:0"), ("train.tensorboard", "false"),
                ("train.steps", "4"), ("eval.max_units", "3")]  # fmt: skip
    config = load_config("configs/vlm.py:micro,tasks=landmarks", settings)
    decode = collate_module.decode_image

    def broken(encoded, size, name):
        if name == bad:
            raise UserError("torn")
        return decode(encoded, size, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "PreemptionWatch", preempted_at(4))
        for module in (loop_module, run_module):
            patch.setattr(module, "say", lambda *lines: said.extend(lines))
        data = RunData.open(config)
        row = data.mixture.row(0)
        bad = data.table.record(row, image=False).uid
        patch.setattr(collate_module, "decode_image", broken)
        assert train(config, str(path)) == 0
    return path, said, config, row


def test_a_signal_at_the_last_step_is_done_and_scored(trained):
    path, said, _, _ = trained
    meta = restore_for_inference(path, 4).meta
    assert np.isfinite(meta.metrics["loss"]) and meta.thresholds
    assert any(line.startswith("done: step 4") for line in said)


def test_thresholds_of_a_checkpoint_are_those_of_evaluation(trained):
    """Of all labelled validation frames, though the loss is of `eval.max_units` rows."""
    path, _, config, _ = trained
    system = System.from_checkpoint(str(path))
    data = RunData.open(config, system.tokenizer, system.labels)
    assert len(data.records("validation")) > config.eval.max_units
    assert system.thresholds == pytest.approx(fit_thresholds(system, data))


def test_broken_records_are_said_and_listed(trained):
    path, said, _, row = trained
    assert restore_for_inference(path).meta.quarantine == (row,)
    assert sum("1 broken record left out" in line for line in said) == 2, "when first seen, and at the end"


def test_the_checkpoint_knows_its_data(trained):
    path, _, config, _ = trained
    data = RunData.open(config)
    toy = restore_for_inference(path).meta.sources["toy"]
    assert toy["fingerprint"] == data.fingerprints[0]
    assert toy["groups"] == {split: groups_of(data, split)["toy"] for split in ("train", "validation")}
    assert len(toy["groups"]["train"]) == 3 and len(toy["groups"]["validation"]) == 1


def test_groups_of_training_are_not_scored_as_test(trained, capsys):
    path, _, config, _ = trained
    data = RunData.open(config)
    sources = restore_for_inference(path).meta.sources
    check_apart(data, "test", {"sources": sources})
    check_apart(data, "train", {"sources": sources})
    check_apart(data, "test", {})
    meta = path / "checkpoints/4/meta/metadata"
    text = meta.read_text()
    values = json.loads(text)
    held_out = groups_of(data, "test")["toy"]
    values["sources"]["toy"]["groups"]["validation"] = [f"x{i}" for i in range(6)] + held_out
    step = epath.Path(path) / "checkpoints/4"
    manifest.rewrite(step, "meta/metadata", json.dumps(values))
    try:
        assert cli.main(["evaluate", "--workdir", str(path)]) == 2
    finally:
        manifest.rewrite(step, "meta/metadata", text)
    said = capsys.readouterr().err.strip()
    assert f"trained or validated on: {', '.join(held_out)}" in said and len(said.splitlines()) == 1
    many = {"toy": {"groups": {"train": held_out}}}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="g0, g1, g2, g3, g4 and 3 more"):
        patch.setattr("vlm_jax.evaluation.apart.ids_of", lambda *_: {"toy": [f"g{i}" for i in range(8)]})
        many["toy"]["groups"]["train"] = [f"g{i}" for i in range(8)]
        check_apart(data, "test", {"sources": many})


def test_changed_data_are_refused_on_resume(trained, monkeypatch):
    path, _, config, _ = trained
    opened = run_module.open_data(config, epath.Path(path), 4)
    opened.fingerprints[0] = "other"
    monkeypatch.setattr(RunData, "open", lambda *_: opened)
    with pytest.raises(UserError, match=r"data changed since the run started \(source toy\)"):
        set_up(config, epath.Path(path))


def test_a_preempted_last_step_gets_its_scores_when_there_is_nothing_to_do(toy_config, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "PreemptionWatch", preempted_at(1))
        assert train(toy_config(("train.steps", "4"), labels=True), str(tmp_path)) == EXIT_PREEMPTED
    assert not restore_for_inference(tmp_path).meta.metrics
    assert train(toy_config(("train.steps", "1"), labels=True), str(tmp_path)) == 0
    meta = restore_for_inference(tmp_path).meta
    assert np.isfinite(meta.metrics["loss"]) and meta.thresholds and meta.config.train.steps == 4
    assert manifest.problems(epath.Path(tmp_path / "checkpoints/1")) == []
    assert "nothing to do" in capsys.readouterr().err


def test_no_landmarks_anywhere_is_one_line(toy_config, tmp_path):
    def bundle(name: str) -> ProcedureBundle:
        sentences = tuple(Sentence(f"{name}-{i}", name, f"note {i}", "key") for i in range(2))
        return ProcedureBundle(Procedure(name, name, "notes"), sentences=sentences)

    write_dataset(
        tmp_path / "notes", DatasetInfo("notes", "real", keywords=("key",)), ("a", "b", "c"), bundle, progress=False
    )
    config = toy_config(("data.path", str(tmp_path / "notes")))
    with pytest.raises(UserError, match="no landmarks in data.path: use configs/vlm.py:PRESET,tasks=describe"):
        set_up(config, epath.Path(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["eval.batch_size", "train.batch_size"])
def test_batch_sizes_must_divide_among_the_mesh_before_anything_is_written(toy_config, tmp_path, monkeypatch, key):
    class TwoShards:
        axis_names, devices = ("data", "fsdp", "tensor"), np.empty((2, 1, 1), object)

    monkeypatch.setattr(run_module, "make_mesh", lambda _: TwoShards())
    with pytest.raises(UserError, match=f"{key}=3 does not divide among 2"):
        set_up(toy_config((key, "3")), epath.Path(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_only_training_records_count_against_the_budget():
    data = SimpleNamespace(records=lambda split: SimpleNamespace(rows=np.arange(100)))
    run = SimpleNamespace(data=data, config=SimpleNamespace(guard=GuardConfig(budget=0.05)))
    check_budget(run, tuple(range(95, 160)))
    with pytest.raises(UserError, match="6 of 100 training records"):
        check_budget(run, tuple(range(94, 160)))


def test_micro_batches_must_divide_too(toy_config, tmp_path, monkeypatch):
    """Else every device computes all of one, and nobody is told."""

    class TwoShards:
        axis_names, devices = ("data", "fsdp", "tensor"), np.empty((2, 1, 1), object)

    monkeypatch.setattr(run_module, "make_mesh", lambda _: TwoShards())
    config = toy_config(("train.batch_size", "8"), ("optim.accumulate", "8"))
    with pytest.raises(UserError, match="train.batch_size / optim.accumulate=1 does not divide among 2"):
        set_up(config, epath.Path(tmp_path / "run"))


def test_a_store_is_closed_when_the_last_things_fail(toy_config, tmp_path, monkeypatch):
    closed = []
    close = run_module.Store.close
    monkeypatch.setattr(run_module.Store, "close", lambda self: (closed.append(self), close(self)))
    monkeypatch.setattr(run_module, "claim_workdir", lambda *_: (_ for _ in ()).throw(UserError("no")))
    with pytest.raises(UserError, match="no"):
        set_up(toy_config(), epath.Path(tmp_path))
    assert len(closed) == 1


def test_a_bad_data_path_leaves_the_work_directory_free(toy_path, tmp_path, capsys):
    """Nobody speaks up at the interpreter's end, and the same work directory takes the corrected command."""

    def words(path: Path) -> list[str]:
        argv = ["train", "--config", "configs/vlm.py:micro,tasks=landmarks", "--workdir", str(tmp_path / "run")]
        settings = {"data.path": path, "data.split": "kfold:3:0", "train.steps": 1, "train.tensorboard": "false"}
        return argv + [f"--config.{key}={value}" for key, value in settings.items()]

    wrong = subprocess.run(
        [sys.executable, "-m", "vlm_jax", *words(tmp_path / "nowhere")], capture_output=True, text=True, check=False,
        env=os.environ | {"JAX_PLATFORMS": jax.default_backend()}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert wrong.returncode == 2 and "nowhere" in wrong.stderr and len(wrong.stderr.strip().splitlines()) == 1
    assert cli.main(words(toy_path)) == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err and (tmp_path / "run/config.json").exists()
