"""A trained system written as files for everybody, read back, and read by others."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import vlm_jax
from vlm_jax.checkpoint.meta import Meta, versions
from vlm_jax.checkpoint.store import Store, restore_for_inference
from vlm_jax.cli import main
from vlm_jax.config.load import load_config
from vlm_jax.decoding.system import System
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights import export
from vlm_jax.weights.verify import verify

LABELS = ("fess/septum", "fess/polyp")
TEXTS = ["the septum is in view", "a polyp in the middle meatus, 3 o'clock"]
META = {"thresholds": {"fess/septum": 0.4, "fess/polyp": None}, "metrics": {"loss": 1.0}, "versions": versions()}


def make_parts(*overrides, preset="micro"):
    small = [("data.target_length", "6"), ("data.prompt_length", "16"), *overrides]
    config = load_config(f"configs/vlm.py:{preset}", small)
    tokenizer = Tokenizer.train(TEXTS, 90)
    model = build_model(config, len(LABELS), tokenizer.size)
    abstract = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), abstract)
    sources = {"fess": {"world": "simulated", "licence": "", "fingerprint": "f", "groups": {"train": ["p1"]}}}
    return params, Meta(config=config, labels=LABELS, tokenizer=tokenizer.to_json(), sources=sources, **META)


@pytest.fixture(scope="module")
def parts():
    return make_parts()


@pytest.fixture(scope="module")
def workdir(parts, tmp_path_factory):
    """A work directory with one step that has moving averages other than its parameters."""
    params, meta = parts
    path = tmp_path_factory.mktemp("run")
    store = Store(path)
    ema = jax.tree.map(lambda leaf: leaf + 1, params)
    store.save(3, params=params, ema=ema, train={"step": np.int32(3)}, meta=meta)
    store.close()
    return path


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "one"
    assert main(["weights", "export", "--checkpoint", str(workdir), "--out", str(out)]) == 0
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_hold_everything(exported, workdir):
    restored = restore_for_inference(str(workdir))
    found = safetensors.numpy.load_file(exported / "model.safetensors")
    expected = export.flatten(restored.params)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    about = json.loads((exported / "config.json").read_text())
    assert about["labels"] == list(LABELS) and about["thresholds"] == META["thresholds"]
    assert about["config"]["model"]["decoder"]["layers"] == 1 and about["step"] == 3 and about["system"] == "vlm"
    assert about["versions"]["vlm_jax"] and about["n_tokens"] == Tokenizer.from_json(restored.meta.tokenizer).size
    assert sorted(contents(exported)) == sorted([*export.FILES, "MANIFEST.json"])
    assert list(exported.parent.glob(".*")) == []


def test_same_bytes_twice_and_through_an_import(exported, workdir, tmp_path):
    for words in (
        ["weights", "export", "--checkpoint", str(workdir), "--out"],
        ["weights", "export", "--checkpoint", str(exported), "--out"],
        ["weights", "import", "--layout", "vlm_jax", "--input", str(exported), "--out"],
        ["weights", "import", "--layout", "vlm_jax", "--input", str(exported / "model.safetensors"), "--out"],
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert main([*words, str(out)]) == 0
        assert contents(out) == contents(exported), words


def test_it_answers_as_the_checkpoint_does(exported, workdir):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    here, there = (vlm_jax.load(path, batch_size=1) for path in (workdir, exported))
    texts = {"keyword": "polyp", "previous": TEXTS[0]}
    assert here(image, **texts) == there(image, **texts)
    assert there.system.meta == here.system.meta


def test_a_bfloat16_system_and_a_step_by_its_number(exported):
    system = System.from_checkpoint(str(exported), 3, "bfloat16")
    assert system.config.model.dtype == "bfloat16"
    with pytest.raises(UserError, match="export of step 3, not 4"):
        System.from_checkpoint(str(exported), 4)


@pytest.mark.parametrize("preset", ["micro,no_cross_attention,tasks=landmarks", "micro,tasks=report"])
def test_every_shape_of_the_system(preset, tmp_path):
    params, meta = make_parts(("model.scan_layers", "true"), preset=preset)
    export.write_export(params, meta, 1, tmp_path / "e")
    restored = export.read_export(tmp_path / "e")
    jax.tree.map(np.testing.assert_array_equal, restored.params, params)
    assert restored.meta.config == meta.config


@pytest.mark.parametrize("kind", ["AutoTokenizer", "PreTrainedTokenizerFast"])
def test_hugging_face_splits_texts_as_we_do(kind, exported, parts):
    transformers = pytest.importorskip("transformers")
    theirs, ours = getattr(transformers, kind).from_pretrained(exported), Tokenizer.from_json(parts[1].tokenizer)
    for text in [*TEXTS, "Septum [SEP] POLYP", "naïve 3-o'clock view", "[eos] [NULL]", ""]:
        assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text), text
    assert (theirs.pad_token_id, theirs.eos_token, len(theirs)) == (0, "[EOS]", ours.size)


def _changed(exported, tmp_path, name, change):
    folder = tmp_path / "changed"
    shutil.copytree(exported, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    return folder


def _again(folder):
    """The manifest of what lies there now, as somebody who edits an export on purpose would write it."""
    from etils import epath

    from vlm_jax.checkpoint import manifest

    manifest.write(epath.Path(folder))
    return folder


@pytest.mark.parametrize("name", export.FILES)
def test_a_changed_byte_is_noticed(name, exported, tmp_path, capsys):
    folder = _changed(exported, tmp_path, name, lambda raw: raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
    assert main(["weights", "verify", str(folder)]) == 2
    assert f"{name} has changed" in capsys.readouterr().err
    with pytest.raises(UserError, match="has changed"):
        vlm_jax.load(folder)


def test_parameters_that_do_not_fit_are_named(exported, tmp_path, capsys):
    arrays = safetensors.numpy.load_file(exported / "model.safetensors")
    kernel = "landmark_head/linear/kernel"
    for change, says in (
        ({kernel: None}, f"{kernel} is missing"),
        ({kernel: None, kernel + "x": arrays[kernel]}, f"{kernel}x is not part of this model"),
        ({kernel: np.ascontiguousarray(arrays[kernel].T)}, f"{kernel} is (2, 32)"),
        ({kernel: arrays[kernel] * np.nan}, f"not finite in {kernel}"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(exported, folder)
        kept = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        (folder / "model.safetensors").write_bytes(safetensors.numpy.save(kept))
        assert main(["weights", "verify", str(_again(folder))]) == 2
        assert says in capsys.readouterr().err


def test_verify_says_what_lies_there(exported, tmp_path, capsys):
    assert main(["weights", "verify", str(exported)]) == 0
    assert "is in order: export, system vlm, step 3" in capsys.readouterr().out
    assert verify(exported / "model.safetensors").kind == "weights file"
    (exported / "README.md").write_text("a model card that somebody added")
    assert verify(exported).n_arrays > 40
    (exported / "README.md").unlink()


def test_nothing_is_overwritten_and_nothing_half_written(exported, parts, tmp_path, monkeypatch, capsys):
    assert main(["weights", "export", "--checkpoint", str(exported), "--out", str(exported)]) == 2
    assert "is there already" in capsys.readouterr().err

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.manifest, "write", full)
    assert main(["weights", "export", "--checkpoint", str(exported), "--out", str(tmp_path / "new")]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_export(tmp_path, workdir, capsys):
    assert not export.is_export(workdir) and not export.is_export(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("[1]")
    assert not export.is_export(tmp_path)
    assert main(["weights", "import", "--layout", "vlm_jax", "--input", str(tmp_path), "--out", "x"]) == 2
    assert "is no export" in capsys.readouterr().err
    with pytest.raises(UserError, match="is remote"):
        export.read_export("gs://bucket/export")
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        export.n_tokens("{}")


def test_another_format_is_not_guessed_at(exported, tmp_path):
    folder = _changed(exported, tmp_path, "config.json", lambda raw: raw.replace(b"export/1", b"export/9"))
    with pytest.raises(UserError, match="export/9"):
        export.read_export(_again(folder))
