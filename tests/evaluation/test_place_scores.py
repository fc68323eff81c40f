"""Where landmarks are: against scikit-learn and plain numpy, beside the constant answer, on the way into the report."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from vlm_jax.config.load import load_config
from vlm_jax.contract import DatasetInfo
from vlm_jax.data import collate
from vlm_jax.data.run_data import RunData
from vlm_jax.data.store import write_dataset
from vlm_jax.decoding.boxes import areas_and_boxes, box_of
from vlm_jax.errors import UserError
from vlm_jax.evaluation import place_scores
from vlm_jax.evaluation.intervals import Groups
from vlm_jax.evaluation.place_scores import METRICS, PlaceUnits, compare, place_samples, usual_shares
from vlm_jax.evaluation.run import evaluate, fit_thresholds
from vlm_jax.evaluation.table import table


def test_scores_are_those_of_scikit_learn_and_numpy():
    rng = np.random.default_rng(0)
    said, true = rng.random((2, 12, 5, 4, 3)).astype(np.float32)
    known = rng.random((12, 3)) < 0.8
    units = PlaceUnits(("a", "b", "c"), known, Groups.build([f"g{i // 2}" for i in range(12)]))
    samples = place_samples(units, np.stack([compare(s, t) for s, t in zip(said, true, strict=True)]), resamples=50)
    expected = {name: [] for name in METRICS}
    for c, name in enumerate(units.names):
        s, t = said[known[:, c], ..., c], true[known[:, c], ..., c]
        expected["iou"].append(jaccard_score(t.ravel() >= 0.5, s.ravel() >= 0.5))
        expected["iou_soft"].append(np.minimum(s, t).sum() / np.maximum(s, t).sum())
        expected["area_error"].append(np.abs(s.mean((1, 2)) - t.mean((1, 2))).mean())
        for metric in METRICS:
            assert samples.get(f"class/{name}/{metric}") == pytest.approx(expected[metric][-1], abs=1e-6)
    for metric, values in expected.items():
        assert samples.get(metric) == pytest.approx(np.mean(values), abs=1e-6)
    estimate = samples.estimate("iou_soft")
    assert estimate.low < estimate.value < estimate.high


def test_a_landmark_that_no_mask_has_is_undefined_whatever_is_said_of_it():
    """Of three landmarks the second half covers no place, the third is in no mask; the answer says all everywhere."""
    true = np.zeros((2, 2, 3), np.float32)
    true[0, 0, 0], true[0, 0, 1] = 1, 0.4
    units = PlaceUnits(("a", "b", "c"), np.ones((1, 3), bool), Groups.build(["g"]))
    samples = place_samples(units, compare(np.ones_like(true), true)[None], resamples=10)
    assert samples.get("iou") == samples.get("class/a/iou") == 0.25 and np.isnan(samples.get("class/b/iou"))
    assert samples.get("class/b/iou_soft") == pytest.approx(0.1) and np.isnan(samples.get("class/c/iou_soft"))
    assert samples.get("iou_soft") == pytest.approx(0.175) and samples.get("class/c/area_error") == 1.0


def test_the_box_is_around_what_is_half_covered():
    shares = np.zeros((4, 8))
    shares[1, 2:4], shares[3, 6], shares[0, 0] = 0.5, 1.0, 0.49
    one, two = areas_and_boxes(np.stack([shares, shares * 0.4], axis=-1))
    assert one[0] == pytest.approx(2.49 / 32) and box_of(one) == (0.25, 0.25, 0.875, 1.0)
    assert two[0] == pytest.approx(0.4 * 2.49 / 32) and box_of(two) is None


# --- Through evaluate ------------------------------------------------------------------------------------------------


def with_masks(bundle):
    """The masks of the stripes in the images."""

    def masked(frame):
        mask = np.zeros((24, 24), np.uint8)
        for place in range(3):
            mask[:, 8 * place : 8 * place + 8] = frame.visible[place] * (place + 1)
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        return dataclasses.replace(frame, mask=file.getvalue())

    return dataclasses.replace(bundle, frames=[masked(frame) for frame in bundle.frames])


@pytest.fixture(scope="module")
def masked_data(tmp_path_factory, toy_bundle):
    path = tmp_path_factory.mktemp("masked") / "toy"
    info = DatasetInfo(
        "toy",
        "simulated",
        ("red", "green", "blue", "never"),
        keywords=tuple(f"step_{i}" for i in range(4)),
        extras=("mask",),
    )
    write_dataset(path, info, [f"p{i}" for i in range(14)], lambda id: with_masks(toy_bundle(id)), progress=False)
    settings = {"data.path": str(path), "data.split": "kfold:2:0", "eval.bootstrap": "100", "eval.batch_size": "8",
                "data.image_size": "24", "model.region_width": "8"}  # fmt: skip
    return RunData.open(load_config("configs/vlm.py:micro,tasks=landmarks", settings))


def shares_of(batch):
    """f32[B, 3, 3, 4]: the stripe of each landmark where its colour is bright, an answer without fault."""
    size = batch.image.shape[2]
    row = batch.image[:, 0, size // 2].astype(np.float32)
    found = np.zeros((len(row), 3, 3, 4), np.float32)
    for i in range(3):
        found[:, :, i, i] = (row[:, (2 * i + 1) * size // 6, i] > 120)[:, None]
    return found


def test_usual_places_are_the_mean_of_the_training_masks(masked_data):
    found = usual_shares(masked_data, (3, 3), 8)
    usual = found.shares
    assert found.known.tolist() == [True] * 4 and not masked_data.broken
    train = masked_data.records("train")
    seen = np.array([[v or 0 for v in masked_data.table.record(int(i)).landmarks] for i in train.rows], float)
    known = np.array([[v is not None for v in masked_data.table.record(int(i)).landmarks] for i in train.rows])
    for c in range(3):
        assert usual[..., c] == pytest.approx(np.eye(3)[c] * (seen[known[:, c], c].mean()) * np.ones((3, 1)))
    assert not usual[..., 3].any()


def test_evaluation_scores_places_and_draws_them(masked_data, make_echo, tmp_path):
    echo = make_echo(masked_data, ("landmarks",))
    echo.places = lambda batch: (echo.probabilities(batch), shares_of(batch))
    metrics = evaluate(echo, masked_data, "test", tmp_path / "eval", progress=False)
    own = {k.removeprefix("toy/places/"): v for k, v in metrics.items() if k.startswith("toy/places/")}
    assert own["iou"]["value"] == own["iou_soft"]["value"] == 1.0 and own["area_error"]["value"] == 0.0
    assert own["iou"]["unit"] == "frame" and own["iou"]["low"] == 1.0 and own["iou"]["world"] == "simulated"
    assert own["class/never/iou"]["value"] is None
    constant = own["trivial/constant/iou_soft"]["value"]
    assert 0.2 < constant < 0.8 and own["gain/iou_soft"]["value"] == pytest.approx(1 - constant)
    assert "toy / places" in table(metrics) and "constant" in table(metrics)

    rows = [json.loads(line) for line in (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()]
    red = next(row["landmarks"]["red"] for row in rows if row["landmarks"]["red"]["true"])
    assert red["box"] == red["true_box"] == [0.0, 0.0, pytest.approx(1 / 3), 1.0] and red["area"] == pytest.approx(
        1 / 3
    )
    green = [row["landmarks"]["green"] for row in rows if row["landmarks"]["green"]["true"] is None]
    assert green and all(one["true_area"] is None and one["true_box"] is None for one in green)
    for metric in ("f1", "iou"):
        task = "landmarks" if metric == "f1" else "places"
        assert metrics[f"toy/{task}/class/green/{metric}"]["n_units"] == len(rows) - len(green)
    page = (tmp_path / "eval" / "report.html").read_text()
    assert (
        '<span class="box" style="left:0.0%;top:0.0%;width:33.3%;height:100.0%" title="red"><b>red</b></span>' in page
    )
    assert 'class="box true"' in page and "Where landmarks are, by their masks" in page


def test_each_source_is_scored_on_its_own_columns(masked_data, toy_bundle, make_echo, tmp_path):
    """A second source knows the third stripe alone; its column is the model's fifth."""

    def blue(id):
        bundle = with_masks(toy_bundle(id))
        frames = [
            dataclasses.replace(f, visible=f.visible[2:3], fractions=(0.2,), mask=only_blue(f.mask))
            for f in bundle.frames
        ]
        activities = tuple(dataclasses.replace(a, landmarks=a.landmarks[2:3]) for a in bundle.activities)
        procedure = dataclasses.replace(bundle.procedure, source="other")
        return dataclasses.replace(bundle, procedure=procedure, activities=activities, frames=frames)

    def only_blue(png):
        file = io.BytesIO()
        Image.fromarray((np.asarray(Image.open(io.BytesIO(png))) == 3).astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    keywords = tuple(f"step_{i}" for i in range(4))
    info = DatasetInfo("other", "simulated", ("blue",), keywords=keywords, extras=("mask",))
    write_dataset(tmp_path / "other", info, [f"p{i}" for i in range(14)], blue, progress=False)
    paths = (*masked_data.config.data.path, str(tmp_path / "other"))
    config = dataclasses.replace(masked_data.config, data=dataclasses.replace(masked_data.config.data, path=paths))
    data = RunData.open(config)
    assert data.labels.names[4] == "other/blue"
    echo = make_echo(data, ("landmarks",))
    four = echo.probabilities
    echo.probabilities = lambda batch: np.concatenate([four(batch), four(batch)[:, 2:3]], axis=1)

    def places(batch):
        shares = shares_of(batch)
        return echo.probabilities(batch), np.concatenate([shares, shares[..., 2:3] / 2], axis=-1)

    echo.places = places
    metrics = evaluate(echo, data, "test", tmp_path / "eval", progress=False)
    assert metrics["toy/places/iou_soft"]["value"] == 1.0
    assert metrics["other/places/iou_soft"]["value"] == metrics["other/places/class/blue/iou_soft"]["value"] == 0.5
    assert not any(key.startswith("other/places/class/") and "/blue/" not in key for key in metrics)


def test_without_masks_to_learn_it_from_there_is_no_constant_answer(masked_data, data_paths, make_echo, tmp_path):
    echo = make_echo(masked_data, ("landmarks",))
    echo.places = lambda batch: (echo.probabilities(batch), shares_of(batch))
    config = dataclasses.replace(
        masked_data.config, data=dataclasses.replace(masked_data.config.data, path=(str(data_paths[0]),))
    )
    metrics = evaluate(echo, masked_data, "test", tmp_path / "eval", progress=False, reference=RunData.open(config))
    assert metrics["toy/places/iou"]["value"] == 1.0
    assert not any("constant" in key or key.startswith("toy/places/gain") for key in metrics)


def test_only_so_many_masks_of_training_are_read_and_what_is_broken_there_is_no_record_of_the_split(
    masked_data, monkeypatch
):
    read, original = [], type(masked_data)._pixels

    def seen(self, record, row, strict):
        read.append(row)
        if len(read) == 3:
            raise UserError("truncated")
        return original(self, record, row, strict)

    monkeypatch.setattr(type(masked_data), "_pixels", seen)
    monkeypatch.setattr(place_scores, "MOST_FRAMES", 10)
    found = usual_shares(masked_data, (3, 3), 8)
    train = masked_data.records("train").rows
    assert len(set(read)) == 10 and {int(train[0]), int(train[-1])} <= set(read)
    assert found.known[0] and not masked_data.broken


def test_frames_whose_masks_are_damaged_are_counted(masked_data, make_echo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collate, "decode_mask", _damaged)
    echo = make_echo(masked_data, ("landmarks",))
    echo.places = lambda batch: (echo.probabilities(batch), shares_of(batch))
    metrics = evaluate(echo, masked_data, "test", tmp_path / "eval", progress=False)
    n = metrics["toy/landmarks/map"]["n_units"]
    assert (
        f"{n} masks could not be read; such frames are not scored on places: `vlm-jax data check DIR` names them"
        in capsys.readouterr().err
    )
    assert not any(key.startswith("toy/places/") for key in metrics)


def _damaged(data, size, name):
    raise UserError(f"{name}: its mask is damaged")


def test_thresholds_are_fitted_without_a_look_at_places(masked_data, make_echo, monkeypatch):
    """Masks of training would be read for nothing."""
    echo = make_echo(masked_data, ("landmarks",))
    echo.places = lambda batch: pytest.fail("asked for places")
    assert set(fit_thresholds(echo, masked_data)) == set(masked_data.labels.names)


def test_frames_without_masks_are_not_scored_on_places(data_paths, make_echo, tmp_path):
    settings = {"data.path": str(data_paths[0]), "data.split": "kfold:2:0", "eval.bootstrap": "20",
                "data.image_size": "24", "model.region_width": "8"}  # fmt: skip
    data = RunData.open(load_config("configs/vlm.py:micro,tasks=landmarks", settings))
    echo = make_echo(data, ("landmarks",))
    echo.places = lambda batch: (echo.probabilities(batch), shares_of(batch))
    metrics = evaluate(echo, data, "test", tmp_path / "eval", progress=False)
    assert not any("/places/" in key for key in metrics) and "toy/landmarks/map" in metrics
    page = (tmp_path / "eval" / "report.html").read_text()
    assert 'class="box' not in page, "without masks nobody knows what its places mean"
