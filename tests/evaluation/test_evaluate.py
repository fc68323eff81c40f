"""The whole evaluation on two toy sources: what is written, what is counted, and what a prompt may hold."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from vlm_jax.contract import END, START
from vlm_jax.data import files
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.evaluation import run as run_module
from vlm_jax.evaluation.run import evaluate, fit_thresholds
from vlm_jax.evaluation.table import table
from vlm_jax.evaluation.units import END_WORD
from vlm_jax.metrics.similarity import best_cosine

FIELDS = {"value", "low", "high", "n_units", "n_groups", "group_level", "unit", "world"}


@pytest.fixture(scope="module")
def rows(results):
    return [json.loads(line) for line in (results[1] / "predictions.jsonl").read_text().splitlines()]


# --- metrics.json ----------------------------------------------------------------------------------------------------


def test_metrics_json_is_what_is_returned_and_every_entry_is_whole(results):
    metrics, out = results
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert all(set(entry) >= FIELDS and entry["group_level"] == "patient" for entry in metrics.values())
    assert not list(out.glob("*.partial"))


def test_units_are_frames_activities_and_sentences(results):
    metrics, _ = results
    expected = {"toy/landmarks/f1_macro": (7 * 12, "frame"), "toy/describe/bleu2": (7 * 4, "activity"),
                "toy/anticipate/bleu2": (7 * 4, "activity"), "toy/report/bleu2": (7 * 4, "sentence"),
                "notes/report/bleu2": (7 * 3, "sentence")}  # fmt: skip
    assert {k: (metrics[k]["n_units"], metrics[k]["unit"]) for k in expected} == expected
    assert {e["world"] for k, e in metrics.items() if k.startswith("toy/")} == {"simulated"}
    assert {e["world"] for k, e in metrics.items() if k.startswith("notes/")} == {"real"}
    assert not any(k.startswith("notes/") and not k.startswith("notes/report/") for k in metrics)


def test_intervals_hold_their_value_and_all_are_over_the_seven_test_groups(results):
    metrics, _ = results
    assert {e["n_groups"] for e in metrics.values()} == {7}
    entry = metrics["toy/describe/rouge_l"]
    assert entry["low"] < entry["value"] < entry["high"]


def test_the_agreed_names_are_there(results):
    metrics, _ = results
    for name in ("f1_macro", "f1_micro", "f1_weighted", "f1_sample", "precision_macro", "recall_macro", "map",
                 "f1_macro_at_0.5", "class/red/f1", "gain/f1_macro", "trivial/all_positive/f1_macro",
                 "trivial/prior/map", "context/empty/f1_macro", "context/rolled_out/map"):  # fmt: skip
        assert f"toy/landmarks/{name}" in metrics
    for task in ("describe", "anticipate", "report"):
        for name in ("bleu2", "rouge_l", "exact", "cosine_tfidf", "cosine_minilm",
                     "trivial/most_frequent/bleu2", "gain/bleu2",
                     "trivial/markov/exact", "trivial/shuffled/cosine_tfidf", "context/rolled_out/bleu2",
                     "factuality/precision", "factuality/landmark/recall", "factuality/contradictions",
                     "trivial/markov/factuality/f1", "context/rolled_out/factuality/omissions"):  # fmt: skip
            assert f"toy/{task}/{name}" in metrics
    for name in ("keyword", "keyword_mode", "nearest"):
        assert f"toy/report/trivial/{name}/rouge_l" in metrics


def test_a_perfect_classifier_scores_one_and_the_class_without_a_positive_is_listed(results):
    metrics, _ = results
    assert metrics["toy/landmarks/f1_macro"]["value"] == metrics["toy/landmarks/map"]["value"] == 1.0
    assert metrics["toy/landmarks/undefined_classes"]["names"] == ["never"]
    assert metrics["toy/landmarks/class/never/f1"]["value"] is None
    assert metrics["toy/landmarks/gain/f1_macro"]["low"] > 0
    trivial = metrics["toy/landmarks/trivial/all_positive/f1_macro"]["value"]
    assert metrics["toy/landmarks/gain/f1_macro"]["value"] == pytest.approx(1 - trivial)


def test_trivial_label_scores_follow_from_the_prevalence(results):
    metrics, _ = results
    share = metrics["toy/landmarks/class/red/prevalence"]["value"]
    constant = metrics["toy/landmarks/trivial/all_positive/class/red/f1"]["value"]
    assert constant == pytest.approx(2 * share / (1 + share))
    assert metrics["toy/landmarks/trivial/prior/class/red/ap"]["value"] == pytest.approx(share)


# --- predictions.jsonl -----------------------------------------------------------------------------------------------


def test_predictions_hold_one_object_a_unit(rows, results):
    metrics, _ = results
    for source, task in (("toy", "landmarks"), ("toy", "describe"), ("toy", "report"), ("notes", "report")):
        units = [r for r in rows if r["source"] == source and task in r]
        assert len(units) == metrics[f"{source}/{task}/{'f1_macro' if task == 'landmarks' else 'bleu2'}"]["n_units"]
        assert all({"procedure", "activity", "uid"} <= set(r) for r in units)
        assert {r["world"] for r in units} == {"real" if source == "notes" else "simulated"}
    said = next(r for r in rows if (r["activity"] or "").endswith("-a0"))["landmarks"]
    assert said["green"]["true"] is None and said["red"]["true"] is not None
    assert {"score", "threshold", "predicted"} <= set(said["red"])


def test_texts_are_scored_on_the_middle_frame(rows):
    assert {
        r["uid"].rsplit("-", 1)[1] for r in rows if "describe" in r or ("report" in r and r["source"] == "toy")
    } == {"f1"}


def test_prompts_are_gold_own_or_empty(rows):
    """The echo system shows its prompt: previous, current, or keyword and context."""
    procedure = next(r["procedure"] for r in rows if "describe" in r)
    chain = [r for r in rows if r["procedure"] == procedure and r["source"] == "toy" and "describe" in r]
    describe = [r["describe"] for r in chain]
    assert describe[0]["predicted"] == "after start"
    assert describe[1]["predicted"] == "after " + describe[0]["true"]
    assert [d["contexts"]["empty"] for d in describe] == ["after nothing"] * 4
    assert describe[0]["contexts"]["rolled_out"] == "after start"
    for before, now in zip(describe, describe[1:], strict=False):
        assert now["contexts"]["rolled_out"] == "after " + before["contexts"]["rolled_out"]
    for said, anticipated in zip(describe, [r["anticipate"] for r in chain], strict=True):
        assert anticipated["predicted"] == "after " + said["true"]
        assert anticipated["contexts"]["rolled_out"] == "after " + said["contexts"]["rolled_out"]
    assert chain[-1]["anticipate"]["true"] == END
    report = [r["report"] for r in chain]
    assert report[0]["prompt"][1] == START
    assert re.fullmatch(r"after step.*0.* start", report[0]["contexts"]["rolled_out"])
    assert report[1]["predicted"].endswith(report[0]["true"])
    assert report[1]["contexts"]["rolled_out"].count("after") == 2
    assert "noted" not in report[1]["contexts"]["empty"] and "step" in report[1]["contexts"]["empty"]


def test_notes_roll_out_without_frames(rows):
    chain = [r["report"] for r in rows if r["source"] == "notes"][:3]
    assert [c["contexts"]["rolled_out"].count("after") for c in chain] == [1, 2, 3]


# --- Contexts, subsets, thresholds -----------------------------------------------------------------------------------


def test_a_subset_of_tasks_scores_only_itself(run_data, make_echo, tmp_path):
    system = make_echo(run_data, tasks=("report",))
    metrics = evaluate(system, run_data, "validation", tmp_path, contexts=("gold",), progress=True)
    assert {k.split("/")[1] for k in metrics} == {"report"}
    assert not any("/context/" in k for k in metrics)
    assert all(e["low"] is None and e["high"] is None for e in metrics.values())  # two groups: no interval


def test_in_a_mixture_each_source_is_asked_for_its_own_texts(run_data, make_echo, tmp_path):
    system = make_echo(run_data)
    evaluate(system, run_data, "validation", tmp_path / "all", contexts=("gold",), progress=False)
    assert system.asked == {("describe", "anticipate", "report"), ("report",)}
    alike = make_echo(run_data, tasks=("landmarks", "report"))
    evaluate(alike, run_data, "validation", tmp_path / "report", contexts=("gold",), progress=False)
    assert alike.asked == {None}


def test_thresholds_are_fitted_on_validation_where_the_system_has_none(run_data, make_echo, tmp_path):
    system = make_echo(run_data, tasks=("landmarks",), thresholds={})
    fitted = fit_thresholds(system, run_data)
    assert set(fitted) == set(run_data.labels.names)
    assert all(t is not None and 0 < t < 1 for t in fitted.values())
    metrics = evaluate(system, run_data, "test", tmp_path, contexts=(), progress=False)
    assert metrics["toy/landmarks/class/red/threshold"]["value"] == fitted["toy/red"]
    assert fit_thresholds(make_echo(run_data, tasks=("report",)), run_data) == {}


def test_the_metrics_notice_a_wrong_model(run_data, make_echo, tmp_path):
    system = make_echo(run_data, tasks=("landmarks",))
    system.sign = -1.0
    metrics = evaluate(system, run_data, "test", tmp_path, contexts=(), progress=False)
    assert metrics["toy/landmarks/f1_macro"]["value"] < 0.2
    assert metrics["toy/landmarks/gain/f1_macro"]["high"] < 0


def test_broken_records_are_left_out_and_said(run_data, echo, tmp_path, monkeypatch):
    victim = int(run_data.records("test").rows[1])
    original = type(run_data)._pixels

    def broken(self, record, row, strict):
        if row == victim:
            raise UserError("truncated")
        return original(self, record, row, strict)

    monkeypatch.setattr(type(run_data), "_pixels", broken)
    data = dataclasses.replace(run_data, broken={})
    metrics = evaluate(echo, data, "test", tmp_path, contexts=("gold",), progress=False)
    lost = metrics["toy/landmarks/f1_macro"]["n_units"], metrics["toy/describe/bleu2"]["n_units"]
    assert lost == (7 * 12 - 1, 7 * 4 - 1)
    assert "could not be read" in (tmp_path / "report.html").read_text()


# --- Mistakes --------------------------------------------------------------------------------------------------------


def test_an_empty_split_is_one_line(run_data, echo, tmp_path, monkeypatch):
    empty = run_data.table.view(np.zeros(0, np.int64))
    monkeypatch.setattr(type(run_data), "records", lambda self, split: empty)
    with pytest.raises(UserError, match=r"nothing to evaluate: the test split"):
        evaluate(echo, run_data, "test", tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_nothing_that_can_be_read_is_one_line_and_the_last_scores_stay(run_data, echo, tmp_path, monkeypatch):
    def broken(self, record, row, strict):
        raise UserError("'shard' is missing")

    monkeypatch.setattr(type(run_data), "_pixels", broken)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="nothing of the test split could be scored: 'shard' is missing"):
        evaluate(echo, dataclasses.replace(run_data, broken={}), "test", tmp_path, contexts=("gold",), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_an_unknown_context_is_one_line(run_data, echo, tmp_path):
    with pytest.raises(UserError, match=r"unknown context 'golden'; expected some of gold, rolled_out, empty"):
        evaluate(echo, run_data, "test", tmp_path, contexts=("golden",), progress=False)


def test_a_full_disk_is_one_line_and_leaves_no_torn_file(run_data, make_echo, tmp_path, monkeypatch):
    def full(temporary, final):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "publish", full)
    with pytest.raises(EnvironmentFault, match="no space left .*evaluate again") as caught:
        evaluate(make_echo(run_data, tasks=("report",)), run_data, "test", tmp_path, contexts=(), progress=False)
    assert not list(tmp_path.iterdir()) and "procedure" not in str(caught.value)


def test_a_file_where_the_results_should_go_is_one_line_before_anything_is_computed(run_data, echo, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file' is a file, and the results are several: name a directory"):
            evaluate(echo, run_data, "test", out, progress=False)
    assert echo.batches == 0


def test_results_go_to_a_bucket_as_whole_objects(run_data, make_echo, monkeypatch, tmp_path):
    written = {}

    class Bucket:
        def __init__(self, path):
            self.path, self.parents = str(path), ()

        def __fspath__(self):
            return self.path

        def __truediv__(self, name):
            return Bucket(f"{self.path}/{name}")

        def exists(self):
            return False

        def mkdir(self, parents, exist_ok):
            pass

        def write_bytes(self, content):
            written[self.path] = content

    monkeypatch.setattr(run_module.epath, "Path", Bucket)
    system = make_echo(run_data, tasks=("report",))
    metrics = evaluate(system, run_data, "test", "gs://bucket/eval", contexts=(), progress=False)
    assert list(written) == [f"gs://bucket/eval/{n}" for n in ("predictions.jsonl", "report.html", "metrics.json")]
    assert json.loads(written["gs://bucket/eval/metrics.json"]) == metrics


def test_no_training_texts_mean_no_tfidf_and_no_package_no_minilm(monkeypatch):
    none, some = (SimpleNamespace(train_texts=lambda t=t: [t]) for t in (" ", "septum"))
    assert [s.name for s in run_module._similarities(none)] == ["cosine_minilm"]
    monkeypatch.setattr(run_module, "minilm", lambda: None)
    assert [s.name for s in run_module._similarities(some)] == ["cosine_tfidf"]
    [tfidf] = run_module._similarities(some)
    assert best_cosine(tfidf, [END_WORD], [[END_WORD]]).tolist() == [1.0], "the end is a right answer"


def test_nothing_of_the_text_is_said_on_the_terminal(run_data, echo, tmp_path, capfd):
    evaluate(echo, run_data, "test", tmp_path, progress=True)
    said = capfd.readouterr()
    assert "rolled out" in said.err and said.out == ""
    assert not re.search(r"view \d|noted|note \d", said.err)


def test_the_table_shows_trivial_scores_beside(results):
    text = table(results[0])
    assert re.search(r"bleu2 .*trivial: most_frequent 0\.\d+, markov", text)
    assert "undefined, without a positive: never" in text
    assert "toy / landmarks (84 frames, 7 groups, simulated)" in text


def test_trivial_systems_are_fitted_on_their_own_source(results):
    metrics, _ = results
    assert metrics["notes/report/trivial/most_frequent/exact"]["value"] == pytest.approx(1 / 3)
    assert metrics["toy/report/trivial/most_frequent/exact"]["value"] > 0
