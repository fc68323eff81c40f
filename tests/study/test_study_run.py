"""A study by its command: killed at random it ends with the same table; runs are shared; what fails is named."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_jax import cli
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.parallel.runtime import cores
from vlm_jax.study import runner as module
from vlm_jax.study.plan import make_plan
from vlm_jax.study.run import claim
from vlm_jax.study.runner import Runner, claimed, progress_table

_spec = importlib.util.spec_from_file_location("study_conftest_run", Path(__file__).with_name("conftest.py"))
toys = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toys)

CONFIG = '''
"""Two systems and their trivial rivals, as small as can be."""
from configs_study import config
def get_config(arg):
    study = config("smoke")
    study.table = ("base@tiny=configs/vlm.py:micro,tasks=describe+landmarks", "hmm@tiny=configs/baselines/hmm.py:tiny",
                   "template_filler@tiny=template_filler:base@tiny")
    study.simulate.update(procedures=4, image_size=16, frames_per_procedure=12)
    study.settings = ("data.image_size=16", "data.vocab_size=256", "model.image_encoder.patch=8", "train.steps=12",
                      "checkpoint.every=4", "eval.every=0", "eval.batch_size=16", "model.hmm.states=4",
                      "model.hmm.iterations=2", "optim.warmup_steps=2", "train.log_every=1")
    study.update(bootstrap=280, coverage=0, contexts=("gold", "empty"))
    return study
'''
LOAD = """
import importlib.util
from vlm_jax.config.load import find
def config(preset):
    spec = importlib.util.spec_from_file_location("study", find("configs/study.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(preset)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    (folder / "configs_study.py").write_text(LOAD)
    (folder / "tiny_study.py").write_text(CONFIG)
    return folder / "tiny_study.py"


def start(config, workdir, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(config.parent), *sys.path])}
    command = [sys.executable, "-m", "vlm_jax", "study", "--config", str(config), "--workdir", str(workdir)]
    command += words
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def labels_only(config, write_toy, tmp_path_factory):
    """The quickest study there is: one small system on frames without any text."""
    bundles = [toys.bundle(i) for i in range(4)]
    bare = [
        dataclasses.replace(
            b, activities=[dataclasses.replace(a, description=None) for a in b.activities], sentences=()
        )
        for b in bundles
    ]
    path = write_toy(tmp_path_factory.mktemp("bare") / "toy", bare)
    changes = f"""
    study.table = ("base@tiny=configs/vlm.py:micro,tasks=landmarks",)
    study.data.path = ({path!r},)
    return study
"""
    file = config.parent / "labels_only.py"
    file.write_text(config.read_text().removesuffix("    return study\n") + changes.lstrip("\n"))
    return file


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    process = start(config, workdir)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-3000:]
    assert "table.csv" in out and "[6/8" in err and "template_filler@tiny" in err
    return workdir


def killed(config, workdir, kills, seed):
    """Starts the study, kills it at a random moment after its first sign of work, `kills` times; then lets it end."""
    draw, done = random.Random(seed), 0
    while done < kills:
        process = start(config, workdir)
        for line in process.stderr:
            if " ..." in line or "pooled" in line:
                break
        time.sleep(draw.uniform(0, 8))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        done += 1
    process = start(config, workdir)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-3000:]
    return done


def same_results(a, b):
    for name in ("table.csv", "table.tex", "contrasts.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.mark.timeout(900)
def test_killed_once_it_ends_with_the_same_table(labels_only, tmp_path, monkeypatch, quick_flags):
    monkeypatch.setenv("XLA_FLAGS", quick_flags)  # nothing is simulated, and so nothing optimised
    process = start(labels_only, tmp_path / "whole")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-3000:]
    assert killed(labels_only, tmp_path / "killed", 1, seed=0) == 1
    same_results(tmp_path / "whole", tmp_path / "killed")
    lines = (tmp_path / "killed" / "table.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in lines[1:]} == {"base@tiny", "trivial/all_positive", "trivial/prior", "data"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_the_whole_study_leaves(uninterrupted):
    lines = (uninterrupted / "table.csv").read_text().splitlines()
    systems = {line.split(",")[0] for line in lines}
    assert {"base@tiny", "hmm@tiny", "template_filler@tiny", "trivial/markov", "data"} <= systems and len(lines) > 150


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_five_times_at_random_it_ends_with_the_same_table(config, uninterrupted, tmp_path):
    assert killed(config, tmp_path, 5, seed=int.from_bytes(os.urandom(4))) == 5
    same_results(uninterrupted, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_processes_share_the_runs_and_end_with_the_same_table(config, uninterrupted, tmp_path):
    processes = [start(config, tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    done = [sum(" done in " in line for line in err.splitlines()) for err in errors]
    assert sum(done) == 8 and min(done) > 0
    same_results(uninterrupted, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(cores() < 2, reason="one core")
def test_one_command_starts_two_processes_and_writes_one_table(config, uninterrupted, tmp_path):
    out, err = (process := start(config, tmp_path, "--processes", "2")).communicate(timeout=900)
    assert process.returncode == 0, err
    beside = (tmp_path / "process-1.log").read_text()
    done = [said.count(" done in ") for said in (err, beside)]
    assert sum(done) == 8 and min(done) > 0
    assert "pooled" in err and "pooled" not in beside and "table.csv" in out
    # A process on fewer cores may add up in another order: the same table, but for rounding.
    here, there = (list(csv.DictReader((of / "table.csv").open())) for of in (tmp_path, uninterrupted))
    for row, other in zip(here, there, strict=True):
        assert all(row[key] == other[key] for key in ("system", "task", "metric", "context", "n_units"))
        a, b = (float(of["value"] or "nan") for of in (row, other))
        assert a == pytest.approx(b, abs=0.02, nan_ok=True)


# --- Without training ------------------------------------------------------------------------------------------------


def test_a_folder_is_claimed_by_one(tmp_path):
    with claimed(tmp_path / "job") as mine:
        assert mine
        with claimed(tmp_path / "job") as second:
            assert not second
    with claimed(tmp_path / "job") as again:
        assert again


@pytest.fixture
def plan(make_study, tmp_path):
    return make_plan(make_study(seeds=(0,)), tmp_path / "study")


def fake(monkeypatch, behave):
    """run_job does what `behave(job)` says: an exception, or a code after writing the job's metrics."""

    def run_job(plan, job):
        outcome = behave(job)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == 0:
            job.results.mkdir(parents=True)
            (job.results / "metrics.json").write_text("{}")
        return outcome

    monkeypatch.setattr(module, "run_job", run_job)


def test_a_system_that_fails_is_named_and_the_others_go_on(plan, monkeypatch, capsys):
    error = UserError("no such\nthing")
    fake(monkeypatch, lambda job: error if job.system.name == "base@tiny" else 0)
    assert Runner(plan).run() == 1
    said = capsys.readouterr().err
    assert "base@tiny (fold 1, seed 0) FAILED: no such thing" in said and "needs base@tiny, which failed" in said
    assert sum(job.done for job in plan.jobs()) == 8
    assert "done" in progress_table(plan) and "begun" in progress_table(plan)


def test_a_bug_leaves_its_traceback_in_the_log(plan, monkeypatch, capsys):
    fake(monkeypatch, lambda job: ValueError("bug") if job.system.name == "base@tiny" else 0)
    assert Runner(plan).run() == 1
    assert "ValueError: bug" in capsys.readouterr().err
    log = plan.jobs()[0].folder / "log.txt"
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("error", [EnvironmentFault("the disk is full"), OSError(28, "No space left")])
def test_a_full_disk_ends_it_all(plan, monkeypatch, error):
    fake(monkeypatch, lambda job: error)
    with pytest.raises(type(error)):
        Runner(plan).run()


def test_preemption_is_passed_on(plan, monkeypatch, capsys):
    fake(monkeypatch, lambda job: 3)
    assert Runner(plan).run() == 3
    assert "run the same command to go on" in capsys.readouterr().err


def test_what_another_process_does_is_waited_for(plan, monkeypatch, capsys):
    fake(monkeypatch, lambda job: 0)
    theirs = plan.jobs()[1]
    lock = claimed(theirs.folder)
    assert lock.__enter__()

    def sleep(seconds):  # the other process ends while this one waits
        fake_result = theirs.results
        fake_result.mkdir(parents=True, exist_ok=True)
        (fake_result / "metrics.json").write_text("{}")

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert Runner(plan).run() == 0
    lock.__exit__(None, None, None)
    assert "1 runs are with other processes" in capsys.readouterr().err


def test_another_study_in_the_same_directory_is_refused(make_study, tmp_path):
    study = make_study()
    claim(study, tmp_path)
    claim(dataclasses.replace(study, bootstrap=500), tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["bootstrap"] == 500
    with pytest.raises(UserError, match="folds differ"):
        claim(dataclasses.replace(study, folds=3), tmp_path)


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    arguments = ["study", "--workdir", str(tmp_path / "w"), "--config", "configs/study.py:smoke"]
    assert cli.main([*arguments, "--config.data.path=nowhere"]) == 2
    assert "'nowhere' is not a data set" in capsys.readouterr().err
    assert cli.main([*arguments[:-1], "configs/study.py:smok"]) == 2
    assert "did you mean 'smoke'" in capsys.readouterr().err
    assert cli.main(["study", "--help"]) == 0
    assert "--config.fold_files=" in capsys.readouterr().out
