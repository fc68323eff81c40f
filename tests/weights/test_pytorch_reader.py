"""The documented reader gives the logits of JAX: every fusion, every ablation, absent frames, scanned layers."""

from __future__ import annotations

import ast
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vlm_jax.checkpoint.meta import Meta
from vlm_jax.config import schema
from vlm_jax.config.load import load_config
from vlm_jax.contract import START
from vlm_jax.models import build_model, init_params
from vlm_jax.text.prompts import encode_prompt
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights.export import write_export

LABELS = ("fess/septum", "fess/polyp", "fess/middle meatus")
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@pytest.fixture(scope="module")
def reader(repository):
    spec = importlib.util.spec_from_file_location("pytorch_reader", repository / "examples" / "pytorch_reader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(tasks=None, **model):
    parts = {
        "image_encoder": schema.ImageEncoderConfig(width=24, layers=2, heads=2, mlp=40, patch=8),
        "text_encoder": schema.TextEncoderConfig(width=16, layers=2, heads=4, mlp=24, positions=16),
        "decoder": schema.DecoderConfig(layers=2, heads=2, mlp=24, positions=12),
    }
    config = schema.Config(
        tasks=tasks or schema.Config().tasks,
        data=schema.DataConfig(image_size=16, prompt_length=9, target_length=6),
        model=schema.ModelConfig(**{**parts, "fusion_heads": 4, "vocab_size": 160, **model}),
    )
    return config


def export_of(config, out, deviation=0.2):
    """Random parameters, large enough that nothing hides below a tolerance, as an export and in JAX."""
    tokenizer = Tokenizer.train(["the septum is in view", "a polyp in the middle meatus"], 120)
    model = build_model(config, len(LABELS), tokenizer.size)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        mean = 1.0 if "scale" in jax.tree_util.keystr(path) else 0.0
        return rng.normal(mean, deviation, leaf.shape).astype(np.float32)

    abstract = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    params = jax.tree_util.tree_map_with_path(draw, abstract)
    meta = Meta(config=config, labels=LABELS, tokenizer=tokenizer.to_json(), thresholds={})
    write_export(params, meta, 1, out)
    return model, params, tokenizer


def batch(config, n_tokens, frames=1, seed=0):
    rng = np.random.default_rng(seed)
    size, data = config.data.image_size, config.data
    image = rng.integers(0, 256, (3, frames, size, size, 3), dtype=np.uint8)
    prompt = rng.integers(1, n_tokens, (3, 4, data.prompt_length), dtype=np.int32)
    prompt[0, :, 5:] = 0
    target = rng.integers(1, n_tokens, (3, 4, data.target_length), dtype=np.int32)
    frame_mask = rng.random((3, frames)) < 0.5 if frames > 1 else np.ones((3, 1), bool)
    frame_mask[0] = frames == 1  # with several frames: one example that has none at all
    return image, frame_mask, prompt, target


def compare(reader, config, out, frames=1, deviation=0.2):
    """Largest absolute difference of each kind of logits."""
    model, params, tokenizer = export_of(config, out, deviation)
    inputs = batch(config, tokenizer.size, frames)
    apply = jax.jit(lambda p, b: model.apply({"params": p}, *b), compiler_options=QUICK)
    ours = apply(params, jax.tree.map(jnp.asarray, inputs))
    image, frame_mask, prompt, target = map(torch.tensor, inputs)
    with torch.no_grad():
        landmarks, tokens = reader.load(out)(image, prompt.long(), target.long(), frame_mask)
    differences = []
    for here, there in ((ours.landmark_logits, landmarks), (ours.token_logits, tokens)):
        assert (here is None) == (there is None)
        if here is not None:  # of words that only pad the vocabulary ours are left out
            there = there[..., : here.shape[-1]]
            assert np.abs(np.asarray(here)[..., : tokenizer.size]).max() > 0.5
            differences.append(float(np.abs(np.asarray(here) - there.numpy()).max()))
    return differences


VARIANTS = {
    "cross_attention": {},
    "no_text, concat, scanned": {"no_text": True, "fusion": "concat", "scan_layers": True},
    "no_image, concat": {"no_image": True, "fusion": "concat"},
    "separate": {
        "tasks": ("landmarks",),
        "fusion": "separate",
        "image_encoder": schema.ImageEncoderConfig(24, 1, 2, 40, 8, epsilon=1e-2),
    },
}
ALONE = {
    "concat": {"fusion": "concat"},
    "pooled": {"fusion": "pooled"},
    "no_image": {"no_image": True},
    "no_text": {"no_text": True},
    "scanned": {"scan_layers": True},
    "one task": {"tasks": ("report",)},
    "landmarks only": {"tasks": ("landmarks",), "fusion": "concat"},
    "no token types": {"text_encoder": schema.TextEncoderConfig(24, 1, 4, 24, 16, 0), "vocab_size": 0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_jax(name, reader, tmp_path):
    differences = compare(reader, small(**VARIANTS[name]), tmp_path / "e")
    assert differences and max(differences) < 2e-5, differences


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_each_ablation_alone(name, reader, tmp_path):
    differences = compare(reader, small(**ALONE[name]), tmp_path / "e")
    assert differences and max(differences) < 2e-5, differences


@pytest.mark.slow
def test_frames_that_are_not_there(reader, tmp_path):
    assert max(compare(reader, small(), tmp_path / "e", frames=3)) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny_vit", "light", "base"])
def test_presets(preset, reader, tmp_path):
    differences = compare(reader, load_config(f"configs/vlm.py:{preset}"), tmp_path / "e", deviation=0.05)
    print(f"{preset}: largest difference of logits {max(differences):.1e}")
    assert max(differences) < 1e-4


def test_another_image_encoder_is_refused_with_its_name(reader, tmp_path):
    export_of(load_config("configs/vlm.py:tiny", {"model.text_encoder.layers": "1"}), tmp_path / "e")
    with pytest.raises(ValueError, match="sees through a backbone"):
        reader.load(tmp_path / "e")


@pytest.mark.parametrize(
    "setting", [{"data.frames": "2"}, {"model.condition_on_landmarks": "true"}, {"model.region_width": "8"}]
)
def test_what_the_file_does_not_hold_is_refused(reader, tmp_path, setting):
    export_of(load_config("configs/vlm.py:micro", setting), tmp_path / "e")
    with pytest.raises(ValueError, match="several frames, landmark tokens or places"):
        reader.load(tmp_path / "e")


def test_prompts_are_tokenised_alike(reader, tmp_path):
    config = small()
    _, _, tokenizer = export_of(config, tmp_path / "e")
    model = reader.load(tmp_path / "e")
    given = {"previous": "the Polyp", "current": "view [SEP]", "keyword": "septum", "context": ""}
    found = model.prompts(**given)[0]
    texts = [["the polyp"], ["the polyp"], ["view [sep]"], ["septum", None]]
    expected = [encode_prompt(tokenizer, row, config.data.prompt_length) for row in texts]
    for row in (0, 1, 3):
        np.testing.assert_array_equal(found[row], expected[row])
    assert START not in tokenizer.decode(found[2].tolist())


def test_parameters_that_are_left_over_or_missing_are_refused(reader, tmp_path):
    _, params, _ = export_of(small(), tmp_path / "e")
    state = reader.to_torch(reader.load_file(tmp_path / "e" / "model.safetensors"))
    model = reader.load(tmp_path / "e")
    for change in ({"extra": torch.ones(1)}, {"token_bias": torch.ones(1)}):
        with pytest.raises(RuntimeError, match=next(iter(change))):
            model.load_state_dict({**state, **change})
    assert len(state) == len(jax.tree.leaves(params))


def test_other_systems_and_other_directories_are_refused(reader, tmp_path):
    (tmp_path / "config.json").write_text('{"format": "vlm_jax.export/1", "system": "landmark_cnn"}')
    with pytest.raises(ValueError, match="landmark_cnn"):
        reader.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no export"):
        reader.load(tmp_path)


def test_it_generates_the_texts_of_the_likeliest_tokens(reader, tmp_path):
    _, _, tokenizer = export_of(small(), tmp_path / "e")
    model = reader.load(tmp_path / "e")
    image, _, prompt, _ = (torch.tensor(array) for array in batch(small(), tokenizer.size))
    texts = model.generate(image, prompt.long())
    assert texts.keys() == {"describe", "anticipate", "report"} and [len(rows) for rows in texts.values()] == [3, 3, 3]
    target = torch.zeros(3, 4, 2, dtype=torch.long)
    target[:, 3, 0] = tokenizer.task_id("report")
    best = model(image, prompt.long(), target)[1][:, 2, 0].argmax(-1).tolist()
    for token, text in zip(best, texts["report"], strict=True):
        assert text.replace(" ", "").startswith(tokenizer.decode([token]).replace(" ", "")) or token == tokenizer.eos_id


def test_word_pieces_become_words(reader, tmp_path):
    export_of(small(), tmp_path / "e")
    tokenizer = reader.load(tmp_path / "e").tokenizer()
    ids = tokenizer.encode("nasal septum, sphenoidal", add_special_tokens=False)
    assert any(token.startswith("##") for token in ids.tokens)
    assert tokenizer.decode(ids.ids) == "nasal septum, sphenoidal"


def test_calibrated_scores_are_refused(reader, tmp_path):
    export_of(small(), tmp_path / "e")
    about = json.loads((tmp_path / "e/config.json").read_text())
    (tmp_path / "e/config.json").write_text(json.dumps(about | {"calibration": {"toy/a": [0.5, 0.1]}}))
    with pytest.raises(ValueError, match="calibrates its scores"):
        reader.load(tmp_path / "e")


def test_it_needs_nothing_of_this_package(repository):
    tree = ast.parse((repository / "examples" / "pytorch_reader.py").read_text())
    names = [n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in ast.walk(tree)
             if isinstance(n, ast.Import | ast.ImportFrom)]  # fmt: skip
    tops = {name.partition(".")[0] for name in names}
    assert tops == {"__future__", "json", "pathlib", "re", "safetensors", "tokenizers", "torch", "typing"}
