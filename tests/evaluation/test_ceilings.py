"""Minimum Bayes risk, entropies and BLEU tables against sacrebleu, enumeration and closed forms."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_jax import cli
from vlm_jax.errors import UserError
from vlm_jax.evaluation import information
from vlm_jax.evaluation.ceilings import bleu_table, ceiling, entropy_bits
from vlm_jax.evaluation.information import Settings, measure
from vlm_jax.metrics.generation import bleu2, bleu_counts
from vlm_jax.simulator import SimulatorConfig

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", ","]), min_size=1, max_size=7).map(" ".join)
TRUTH = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(candidates=st.lists(TEXT, min_size=1, max_size=4), truths=st.lists(TRUTH, min_size=1, max_size=4))
def test_the_table_holds_sacrebleu_s_counts(candidates, truths):
    table = bleu_table(candidates, truths)
    for a, text in enumerate(candidates):
        for t, truth in enumerate(truths):
            np.testing.assert_array_equal(table[a, t], bleu_counts(text, truth))


def test_a_certain_future_has_a_ceiling_of_one_and_no_entropy():
    found = ceiling([("Left side.", ("the left",))] * 8)
    assert found.upper.exact == found.lower.exact == 1 and found.entropy == 0
    assert float(bleu2(found.upper.bleu + found.lower.bleu)) == 1


def test_the_commonest_text_is_the_best_exact_answer_and_halves_bracket_it():
    rng = np.random.default_rng(0)
    draws = [ceiling([(str(rng.choice(["a b", "c d", "e f"], p=[0.5, 0.3, 0.2])), ()) for _ in range(40)])
             for _ in range(300)]  # fmt: skip
    upper, lower = (np.mean([getattr(d, side).exact for d in draws]) for side in ("upper", "lower"))
    assert lower <= 0.5 <= upper < 0.56 and lower > 0.44
    assert np.mean([d.entropy for d in draws]) == pytest.approx(1.485, abs=0.02)  # -sum p log2 p


def test_a_reference_counts_as_a_match():
    futures = [("a b", ("c d",)), ("c d", ("a b",)), ("e f", ()), ("a b", ("c d",))]
    assert ceiling(futures).upper.exact == 0.75


def test_the_mean_of_bleu_picks_what_is_near_to_many():
    futures = [("a b c d", ()), ("a b c e", ()), ("a b c f", ()), ("x y", ()), ("x y", ())]
    found = ceiling(futures)
    assert found.upper.exact == 0.4  # x y
    assert found.upper.bleu[2] > 1.5  # an answer of the first family: matched words on average


@pytest.mark.parametrize("n", [30, 300])
def test_miller_and_madow_take_most_of_the_bias_away(n):
    rng = np.random.default_rng(1)
    p = np.full(8, 1 / 8)
    counts = rng.multinomial(n, p, 2000)
    plain = np.mean([-sum(c / n * math.log2(c / n) for c in row if c) for row in counts])
    corrected = np.mean([entropy_bits(row) for row in counts])
    assert abs(corrected - 3) < 0.3 * abs(plain - 3)


# --- The measurement ------------------------------------------------------------------------------------------------

SMALL = Settings(states=8, futures=8, pool=4)
SHORT = SimulatorConfig(activities_per_procedure=12)


@pytest.fixture(scope="module", autouse=True)
def two_of_each_procedure():
    """Few states of several procedures, for each state takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(information, "PER_PLAN", 2)
        yield


@pytest.fixture(scope="module")
def measured(two_of_each_procedure, tmp_path_factory):
    """A small measurement, and its file."""
    out = tmp_path_factory.mktemp("information") / "i.json"
    return measure(SHORT, SMALL, out, progress=False), out


def test_what_is_written_is_what_the_study_reads(measured):
    result, out = measured
    assert json.loads(out.read_text()) == result and not list(out.parent.glob("*.jsonl"))
    for task in ("describe", "anticipate", "report"):
        for metric in ("exact", "bleu2"):
            cell = result["tasks"][task][metric]
            for known in ("state", "inputs"):
                assert 0 <= cell[f"ceiling_{known}_low"] <= cell[f"ceiling_{known}"] + 0.02 <= 1.02
        assert result["tasks"][task]["states"] == SMALL.states
    tasks = result["tasks"]
    assert tasks["report"]["exact"]["ceiling_state"] == 1 and tasks["report"]["bits_state"] == 0
    assert tasks["anticipate"]["bits_inputs"] >= tasks["anticipate"]["bits_state"] - 0.3
    assert set(result["labels"]["bits"]) == set(result["labels"]["prevalence"])
    assert all(0 <= bits <= 1.1 for bits in result["labels"]["bits"].values())
    scene = result["information"]["scene_about_sentence"]
    assert scene["visual"]["bits"] > 0.3 and scene["visual"]["states"] + scene["procedural"]["states"] == SMALL.states
    assert result["simulator"].startswith("v1") and result["world"] == "simulated"


def test_what_is_finished_is_not_measured_again(measured, monkeypatch):
    result, out = measured
    with monkeypatch.context() as patch:
        patch.setattr(information, "_states", lambda *_: pytest.fail("measured again"))
        assert measure(SHORT, SMALL, out, progress=False) == result
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(information, "_states", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        measure(SHORT, dataclasses.replace(SMALL, seed=SMALL.seed + 1), out, progress=False)
    (out.parent / f"{out.name}.states.jsonl").unlink()


def test_cut_off_and_started_again_gives_the_same(measured, tmp_path, monkeypatch):
    result, _ = measured
    out, real, done = tmp_path / "i.json", information._sentence, []

    def stop(reports, turn, n, rng):
        if len(done) == 2:  # one procedure
            raise KeyboardInterrupt
        done.append(turn)
        return real(reports, turn, n, rng)

    monkeypatch.setattr(information, "_sentence", stop)
    with pytest.raises(KeyboardInterrupt):
        measure(SHORT, SMALL, out, progress=False)
    monkeypatch.setattr(information, "_sentence", real)
    lines = tmp_path / "i.json.states.jsonl"
    assert lines.read_text().count("\n") == 2 and not out.exists()
    with pytest.raises(UserError, match="other settings"):
        measure(SHORT, dataclasses.replace(SMALL, futures=9), out, progress=False)
    lines.write_text(lines.read_text() + '[{"labels": [')  # a torn line
    assert measure(SHORT, SMALL, out, progress=False) == result


def test_parts_apart_and_by_several_threads_are_what_all_are_at_once(measured, tmp_path):
    result, _ = measured
    apart = {}
    for part in information.PARTS:
        settings = dataclasses.replace(SMALL, parts=(part,))
        apart[part] = measure(SHORT, settings, tmp_path / f"{part}.json", workers=2, progress=False)
    for task in information.PARTS[1:]:
        assert apart[task]["tasks"][task] == result["tasks"][task]
        assert apart["labels"]["tasks"][task]["states"] == 0
    assert apart["labels"]["labels"] == result["labels"] and apart["report"]["labels"]["states"] == 0
    together = result["information"]
    assert (
        apart["labels"]["information"]["previous_description_about_labels"]
        == together["previous_description_about_labels"]
    )
    assert apart["report"]["information"]["scene_about_sentence"] == together["scene_about_sentence"]


def test_null_worlds_and_loose_ones_are_seen_to_be_so(tmp_path):
    reports = Settings(states=40, futures=40, pool=6, parts=("report",))

    def measured_in(settings, **world):
        config = SimulatorConfig(activities_per_procedure=24, **world)
        return measure(config, settings, tmp_path / "i", progress=False)

    def bits(found):
        return found["information"]["scene_about_sentence"]["visual"]["bits"]

    nothing = measured_in(reports, world="reports_independent")
    report = nothing["tasks"]["report"]["exact"]
    assert report["ceiling_state"] == 1 > report["ceiling_inputs"], "whose report it is belongs to the state"
    half = measured_in(reports, information=0.5)
    assert half["tasks"]["report"]["exact"]["ceiling_state"] < 1
    assert abs(bits(nothing)) < 0.1 and bits(nothing) + 0.5 < bits(half) < bits(measured_in(reports)) - 0.5
    loose = measured_in(dataclasses.replace(SMALL, parts=("describe",)), information=0.5)
    assert loose["tasks"]["describe"]["exact"]["ceiling_state"] < 0.8
    shuffled = measured_in(dataclasses.replace(SMALL, parts=("anticipate",)), world="previous_shuffled")
    assert shuffled["tasks"]["anticipate"]["exact"]["ceiling_state"] < 0.6


def test_the_command(tmp_path, capsys):
    flags = ["--states", "2", "--futures", "4", "--pool", "2", "--activities_per_procedure", "16"]
    assert cli.main(["data", "information", "--out", str(tmp_path / "i.json"), *flags]) == 0
    assert "anticipate: exact" in capsys.readouterr().out
    assert cli.main(["data", "information", "--out", str(tmp_path / "j.json"), "--states", "0"]) == 2
    assert "--states 0: give a whole number from 1" in capsys.readouterr().err
    assert cli.main(["data", "information", "--out", "gs://b/j.json"]) == 2
    assert cli.main(["data", "information", "--out", str(tmp_path / "k.json"), *flags, "--parts", "report"]) == 0
    said = capsys.readouterr().out
    assert "report: exact" in said and "anticipate" not in said
    result = json.loads((tmp_path / "k.json").read_text())
    assert result["tasks"]["describe"]["states"] == result["labels"]["states"] == 0
    assert cli.main(["data", "information", "--out", str(tmp_path / "l.json"), "--parts", "none"]) == 2


def test_a_folder_for_the_figures_is_one_line_before_anything_is_measured(tmp_path):
    with pytest.raises(UserError, match="is a folder: give a file"):
        measure(SimulatorConfig(), Settings(), tmp_path, progress=False)
