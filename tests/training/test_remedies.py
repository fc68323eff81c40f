"""The remedies in whole runs: one with all that go together, and what configurations are refused."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vlm_jax
from vlm_jax.config.load import load_config
from vlm_jax.config.schema import LossConfig
from vlm_jax.data.run_data import RunData
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.evaluation.run import evaluate
from vlm_jax.inference.inputs import collect
from vlm_jax.tasks import LossContext
from vlm_jax.tasks.landmarks import Landmarks
from vlm_jax.tasks.losses import prior_log_odds
from vlm_jax.training.loop import train

SPEC = "configs/vlm.py:micro,repeat_factor,recalibrated,landmark_tokens,grammar,frames=2,learned_weights,places"


@pytest.fixture(scope="module")
def run(toy_path, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("remedies") / "run"
    keys = {"data.path": toy_path, "data.split": "kfold:3:0", "train.tensorboard": "false", "train.steps": 4}
    keys |= {"checkpoint.every": 4, "eval.every": 0, "data.validation_fraction": 0.5, "eval.bootstrap": 0}
    config = load_config(SPEC, [(key, str(value)) for key, value in keys.items()])
    assert train(config, str(workdir)) == 0
    return workdir, config


def test_a_run_of_all_of_them_is_scored_and_predicts(run, tmp_path):
    workdir, config = run
    system = System.from_checkpoint(str(workdir))
    assert system.clauses and all(re.fullmatch(r"\^view of (nothing|\{\}( and \{\}){0,2})", c) for c in system.clauses)
    metrics = evaluate(system, RunData.open(config, system.tokenizer, system.labels), "test", tmp_path, progress=False)
    assert metrics["toy/describe/exact"]["value"] is not None
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    said = {row[task]["predicted"] for row in rows for task in ("describe", "anticipate") if task in row}
    form = re.compile(r"view of (?:nothing|(?:red|green|blue)(?: and (?:red|green|blue)){0,2})|\[END\]")
    cut = {text for text in said if not form.fullmatch(text)}
    assert all(len(system.tokenizer.encode(text)) >= config.data.target_length - 2 for text in cut)


def test_frames_before_an_image_change_what_is_predicted(run):
    predictor = vlm_jax.load(run[0])
    rng = np.random.default_rng(0)
    now, then = (rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2))
    alone, same, other = (predictor(now, before=b)[0] for b in ((), [[now]], [[now, then]]))
    scores = [[label.score for label in p.landmarks or ()] for p in (alone, same, other)]
    assert np.abs(np.diff(scores, axis=0)).max(axis=1).min() > 1e-6
    nearest = predictor([now, now], before=[[then], [now, then]])[0]  # of two, a model of two frames sees the later
    assert [label.score for label in nearest.landmarks or ()] == pytest.approx(scores[2], abs=1e-6)
    with pytest.raises(UserError, match="before has 1 lists of frames for 2 images"):
        predictor([now, now], before=[[then]])


def test_training_batches_hold_the_frames_before(run):
    data = RunData.open(run[1])
    view = data.records("test")
    batch = next(iter(data.batches(view, 8)))
    assert batch.image.shape[:2] == (8, 2) and batch.frame_mask.shape == (8, 2)
    first = [i for i in range(8) if view.record(i, image=False).uid.endswith("a0-f0")]
    assert all(batch.frame_mask[i].tolist() == [i not in first, True][::-1] for i in range(8)) and first
    later = next(i for i in range(8) if i not in first)
    assert np.array_equal(batch.image[later, 1], batch.image[later - 1, 0])


def test_frames_in_json_lines(tmp_path):
    for name in ("a.png", "b.png"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        (tmp_path / name).write_bytes(file.getvalue())
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"image": "b.png", "before": ["a.png"]}\n')
    assert collect([str(lines)], {})[0].before == (tmp_path / "a.png",)
    lines.write_text('{"image": "b.png", "before": "a.png"}\n')
    with pytest.raises(UserError, match='"before" is no list of paths'):
        collect([str(lines)], {})


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("micro,repeat_factor,asymmetric", "corrected for twice .data.sampling=repeat_factor, loss.landmarks=asymm"),
        ("micro,class_balanced,logit_adjustment", "keep one"),
        ("micro,logit_adjustment,asymmetric,recalibrated", "keep one"),
        ("micro,landmark_tokens,tasks=describe", "needs the tasks landmarks and describe"),
        ("micro,frames=0", "expected a number of frames"),
        ("micro,frames=two", "expected a number of frames"),
    ],
)
def test_what_does_not_go_together_is_refused(spec, match):
    with pytest.raises(UserError, match=match):
        load_config(f"configs/vlm.py:{spec}", [])


def test_several_frames_are_for_the_vlm_alone():
    with pytest.raises(UserError, match="landmark_cnn sees one frame"):
        load_config("configs/baselines/landmark_cnn.py", [("data.frames", "2")])


def test_logit_adjustment_is_the_softmax_of_two_logits():
    """Menon et al. 2021, eq. 10, of (logit, 0) with priors (p, 1 - p); torch computes the cross-entropy."""
    torch = pytest.importorskip("torch")
    positives, negatives = np.array([9, 99]), np.array([89, 0])
    logits, labels = np.array([[0.3, -2.0], [1.5, 4.0]], np.float32), np.array([[1, 0], [0, 1]])
    odds = prior_log_odds(positives, negatives)
    share = (positives + 1) / (positives + negatives + 2)
    two = torch.stack([torch.zeros(2, 2), torch.tensor(logits)], -1)
    two = two + torch.log(torch.tensor(np.stack([1 - share, share], -1), dtype=torch.float32))
    expected = torch.nn.functional.cross_entropy(two.reshape(-1, 2), torch.tensor(labels).reshape(-1), reduction="none")
    right = ((logits > 0) == labels).sum()
    for strength, changes in ((1.0, True), (0.0, False)):
        context = LossContext(LossConfig(logit_adjustment=strength), (), n_tokens=1, prior_log_odds=odds)
        batch = SimpleNamespace(landmarks=labels, landmarks_mask=np.ones((2, 2), bool), valid=np.ones(2, bool),
                                task_mask=np.ones((2, 1), bool))  # fmt: skip
        outputs = SimpleNamespace(landmark_logits=jnp.asarray(logits), region_logits=None)
        total, state = Landmarks().loss_sum(outputs, batch, context)  # type: ignore[arg-type]
        assert np.allclose(total, expected.sum().item(), atol=1e-5) == changes
        assert state["accuracy"] == (right, 4), "of what the model answers, which is not adjusted"
