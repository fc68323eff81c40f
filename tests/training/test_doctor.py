"""The ledger of a run, what the doctor adds up from it, and what it names; planted slow spots in the slow tests."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etils import epath

from vlm_jax import cli
from vlm_jax.errors import UserError
from vlm_jax.training import doctor
from vlm_jax.training.goodput import Ledger
from vlm_jax.training.loop import train

PLANTED = Path(__file__).with_name("planted.py")
START = {
    "row": "start", "step": 0, "name": "micro", "backend": "cpu", "devices": 1, "batch_size": 32, "steps": 100,
    "log_every": 10, "checkpoint_every": 50, "eval_every": 0, "threads": 2, "image_size": 32,
}  # fmt: skip
COMPILE = {
    "row": "phase",
    "phase": "compile",
    "step": 0,
    "seconds": 5.0,
    "flops": 1e9,
    "bytes": 1e9,
    "fixed_bytes": 1e8,
}
LAP = {"row": "lap", "steps": 10, "seconds": 10.0, "data_wait": 0.2, "dispatch": 0.3, "await": 9.3, "host": 0.2,
       "awaited": 2, "rows": 320, "read": 1.0, "decode": 1.0, "prepare": 1.0}  # fmt: skip


def laps(n: int, first: int = 10, **changes) -> list[dict]:
    return [LAP | {"step": first + 10 * i} | changes for i in range(n)]


def phase(name: str, seconds: float, **facts) -> dict:
    return {"row": "phase", "phase": name, "step": 0, "seconds": seconds} | facts


def write(workdir: Path, rows: list[dict], process: int = 0) -> epath.Path:
    folder = workdir / "goodput"
    folder.mkdir(exist_ok=True)
    (folder / f"{process}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return epath.Path(workdir)


def names(report: dict) -> list[str]:
    return [finding["name"] for finding in report["findings"]]


FIGURE = re.compile(r"\d+% of |\d+ s of steps were done again|\d+ s in \d+ starts?, \d+ s of them compiling")
"""What the evidence of every finding has: how much of which time, or of the bytes, it costs."""
SICK = {
    "slow disk": laps(10, seconds=14.0, data_wait=4.2, read=8.0),
    "slow decode": laps(10, seconds=14.0, data_wait=4.2, decode=8.0),
    "slow preparation": laps(10, seconds=14.0, data_wait=4.2, prepare=8.0),
    "small batch": [COMPILE | {"fixed_bytes": 5e8}, *laps(10)],
    "host sync": laps(10, seconds=13.0, host=3.2),
    "frequent saves": [*laps(10), *[phase("save", 4.0), phase("evaluation", 6.0)] * 2],
    "frequent evaluation": [START | {"eval_every": 10}, *laps(10), *[phase("evaluation", 3.0)] * 10],
    "lost work": [*laps(5), START | {"step": 30}, *laps(7, first=40)],
    "slow start": [phase("init", 400.0), phase("init", 300.0), *laps(10)],
}


def test_a_healthy_run_has_no_finding(tmp_path):
    healthy = [START, phase("init", 8.0), COMPILE, *laps(10), phase("save", 1.0), phase("evaluation", 30.0)]
    healthy += [phase("save", 1.0), phase("evaluation", 1.0), {"row": "end", "step": 100, "status": "done"}]
    report = doctor.diagnose(write(tmp_path, healthy))
    assert (report["findings"], report["bottleneck"], report["status"], report["step"]) == ([], None, "done", 100)
    expected = {"init": 8.0, "compile": 5.0, "data_wait": 2.0, "step": 98.0, "save": 2.0, "evaluation": 31.0}
    assert report["seconds"] == expected | {"restore": 0.0, "wasted": 0.0} and report["goodput"] == round(98 / 146, 4)
    assert report["steady"]["seconds_per_step"] == 1.0 and report["steady"]["examples_per_second"] == 32.0


@pytest.mark.parametrize("name", SICK)
def test_each_sickness_is_named_alone(tmp_path, name):
    report = doctor.diagnose(write(tmp_path, [START, COMPILE, *SICK[name]]))
    assert names(report) == [name] and report["bottleneck"] == name
    [finding] = report["findings"]
    assert FIGURE.search(finding["evidence"]) and finding["change"] and 0 < finding["share"] <= 1


def test_a_callback_in_the_step_is_a_host_sync(tmp_path):
    report = doctor.diagnose(write(tmp_path, [START, COMPILE | {"callbacks": 2}, *laps(10)]))
    assert names(report) == ["host sync"] and "2 places" in report["findings"][0]["evidence"]


def test_threads_of_frequent_saves_are_no_host_sync(tmp_path):
    saves = [phase("save", 4.0), phase("evaluation", 6.0)] * 2
    report = doctor.diagnose(write(tmp_path, [START, COMPILE, *laps(10, host=4.0), *saves]))
    assert names(report) == ["frequent saves"]
    report = doctor.diagnose(write(tmp_path, [START, COMPILE | {"callbacks": 1}, *laps(10, host=4.0), *saves]))
    assert names(report) == ["host sync", "frequent saves"], "a callback is one whatever else there is"


def test_one_slow_process_is_told_from_slow_data(tmp_path):
    write(tmp_path, [START, COMPILE, *laps(10)])
    workdir = write(tmp_path, [START, COMPILE, *laps(10, data_wait=6.0, read=20.0)], process=1)
    report = doctor.diagnose(workdir)
    assert names(report) == ["slow process"] and "process 1 spends 62% " in report["findings"][0]["evidence"]
    write(tmp_path, [START, COMPILE, *laps(10, data_wait=6.0, read=20.0)])
    assert names(doctor.diagnose(workdir)) == ["slow disk"]


def test_processes_of_an_earlier_start_are_not_blamed(tmp_path):
    for process in (1, 2, 3):
        write(tmp_path, [START, COMPILE, *laps(10, data_wait=6.0, read=20.0)], process)
    report = doctor.diagnose(write(tmp_path, [START | {"processes": 1}, COMPILE, *laps(10)]))
    assert (names(report), report["processes"]) == ([], 1)


@pytest.mark.parametrize("looped", [{"accumulate": 4}, {"scan_layers": True}])
def test_no_small_batch_is_seen_where_the_compiler_counts_a_loop_once(tmp_path, looped):
    rows = [START | looped, COMPILE | {"fixed_bytes": 5e8}, *laps(10)]
    assert names(doctor.diagnose(write(tmp_path, rows))) == []


def test_a_slow_start_that_is_no_compilation_needs_another_change(tmp_path):
    for name, says in (("init", "nearer disk"), ("compile", "JAX_COMPILATION_CACHE_DIR")):
        rows = [START, phase(name, 700.0), *laps(10)]
        [finding] = doctor.diagnose(write(tmp_path, rows))["findings"]
        assert finding["name"] == "slow start" and says in finding["change"]


def test_wasted_steps_are_counted_to_the_fraction_of_a_lap_and_once():
    times = doctor.add_up([START, *laps(5), START | {"step": 25}, *laps(2, first=35), START | {"step": 25}])
    assert times.seconds["wasted"] == pytest.approx(25.0 + 20.0)
    assert times.laps["steps"] == pytest.approx(25) and times.seconds["data_wait"] == pytest.approx(0.5)
    assert times.seconds["step"] == pytest.approx(24.5) and times.starts == 3 and times.step == 25


def test_few_steps_are_not_judged_and_a_torn_line_is_left_out(tmp_path):
    workdir = write(tmp_path, [START, *laps(1, steps=4, data_wait=9.0)])
    with (tmp_path / "goodput" / "0.jsonl").open("a") as file:
        file.write('{"row": "lap", "st')
    report = doctor.diagnose(workdir)
    assert report["findings"] == [] and "too few to judge" in report["note"]
    assert report["status"] == "running, or killed"


def test_phases_inside_phases_are_taken_out(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    ledger = Ledger()
    with ledger.phase("init"):
        now[0] += 2.0
        with ledger.phase("restore") as facts:
            facts["bytes"] = 7
            now[0] += 3.0
    ledger.open(epath.Path(tmp_path), 5)
    ledger.close()
    ledger.write("lap", 6)  # dropped: closed
    rows = [json.loads(line) for line in (tmp_path / "goodput" / "0.jsonl").read_text().splitlines()]
    assert [(r["row"], r.get("phase"), r.get("seconds")) for r in rows] == [
        ("start", None, None), ("phase", "restore", 3.0), ("phase", "init", 2.0),
    ]  # fmt: skip
    assert rows[1]["bytes"] == 7 and all(row["step"] == 5 for row in rows)


def test_a_full_disk_ends_the_ledger_and_not_the_run(tmp_path, capsys):
    ledger = Ledger()
    ledger.open(epath.Path(tmp_path), 0)
    lines = ledger._file
    assert lines
    lines._file.close()
    lines._file = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(UserError, match="what went wrong"), ledger.phase("save", 1):
        time.sleep(0.002)
        raise UserError("what went wrong")
    ledger.write("lap", 2)
    assert capsys.readouterr().err.count("the goodput ledger ends here: No space left on device") == 1
    assert [r["row"] for r in map(json.loads, (tmp_path / "goodput/0.jsonl").read_text().splitlines())] == ["start"]


def test_training_keeps_a_ledger_and_doctor_prints_it(toy_config, tmp_path, capsys):
    config = toy_config(("train.steps", "8"), ("checkpoint.every", "4"), ("eval.every", "0"), labels=True)
    assert train(config, str(tmp_path / "run")) == 0
    assert train(config, str(tmp_path / "run")) == 0  # nothing to do: a start that wastes nothing
    capsys.readouterr()
    assert cli.main(["doctor", "--workdir", str(tmp_path / "run"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["step"], report["status"], report["starts"], report["processes"]) == (8, "done", 2, 1)
    assert all(report["seconds"][name] > 0 for name in ("init", "compile", "step", "save", "evaluation", "restore"))
    assert report["seconds"]["wasted"] == 0 and sum(report["shares"].values()) == pytest.approx(1, abs=0.001)
    [first] = doctor.read_ledger(epath.Path(tmp_path / "run"))
    assert first.laps["steps"] == 8 and first.compiled["flops"] > 0 and first.compiled["callbacks"] == 0
    assert first.laps["decode"] > 0 and first.laps["read"] > 0
    assert cli.main(["doctor", "--workdir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "goodput" in shown and "step 8 of 8, done; 2 starts, 1 process" in shown


def test_without_a_ledger_one_line_says_so(tmp_path, capsys):
    assert cli.main(["doctor", "--workdir", str(tmp_path)]) == 2
    assert "no ledger" in capsys.readouterr().err
    with pytest.raises(UserError):
        doctor.diagnose(epath.Path(tmp_path))


# --- Planted ---------------------------------------------------------------------------------------------------------

PLANTS = {
    "healthy": ("healthy", {}, None),
    "slow disk": ("slow_disk", {"train.batch_size": 8}, "slow disk"),
    "slow decode": ("slow_decode", {"train.batch_size": 8}, "slow decode"),
    "small batch": ("healthy", {"preset": "tiny", "train.batch_size": 1}, "small batch"),
    "host sync in the step": ("host_sync", {}, "host sync"),
    "frequent saves": ("healthy", {"checkpoint.every": 2}, "frequent saves"),
    "one slow process": ("slow_process", {"train.batch_size": 16}, "slow process"),
    # Chosen after the doctor was written:
    "host work between steps": ("host_work", {"train.batch_size": 8}, "host sync"),
    "slow prompts": ("slow_prompts", {"train.batch_size": 8}, "slow preparation"),
}


def plant(name: str, toy_path: Path, workdir: Path) -> dict:
    """Trains with one plant, on two processes where it takes two; the doctor's report."""
    spot, changes, _ = PLANTS[name]
    settings = {
        "data.path": toy_path, "data.split": "kfold:3:0", "train.steps": 40, "train.batch_size": 32,
        "train.log_every": 10, "train.tensorboard": "false", "checkpoint.every": 40, "eval.every": 0,
    } | changes  # fmt: skip
    preset = settings.pop("preset", "micro")  # of micro even a batch of one moves more activations than parameters
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, PLANTED, spot, "train", "--config", f"configs/vlm.py:{preset}"]
    command += ["--workdir", workdir, *words]
    n = 2 if spot == "slow_process" else 1
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if n > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        environment |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(n)}
    running = [
        subprocess.Popen(command, env=environment | ({"JAX_PROCESS_ID": str(i)} if n > 1 else {})) for i in range(n)
    ]
    assert [process.wait(1500) for process in running] == [0] * n
    return doctor.diagnose(epath.Path(workdir))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_slow_spot_is_named(name, toy_path, tmp_path):
    report = plant(name, toy_path, tmp_path / "run")
    expected = PLANTS[name][2]
    assert names(report) == [] if expected is None else report["bottleneck"] == expected, report["findings"]
