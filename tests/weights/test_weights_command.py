"""`vlm-jax weights import` and `verify` from the command line: what fits, and what is refused by its name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tokenizers
import torch

from vlm_jax.cli import main
from vlm_jax.commands.weights_import import HELP
from vlm_jax.errors import UserError
from vlm_jax.weights.hugging_face import normalisation_beside
from vlm_jax.weights.layouts import LAYOUTS
from vlm_jax.weights.store import read_imported
from vlm_jax.weights.vocabulary import tokens_of


def _load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


files, fuzzing = _load("weight_files"), _load("fuzzing")
QUERY = "encoder.layer.0.attention.self.query.weight"
UP = "encoder.layer.0.intermediate.dense.weight"


def vocabulary(words):
    table = {token: i for i, token in enumerate(["[PAD]", "[UNK]", *words])}
    return tokenizers.Tokenizer(tokenizers.models.WordPiece(table, unk_token="[UNK]")).to_str()


def run_import(tmp_path, arrays, *more, layout="bert", words=("a", "b", "c", "d", "e", "f", "g")):
    """Exit code of an import from safetensors, a vocabulary beside it."""
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (source / "model.safetensors").write_bytes(safetensors.numpy.save(kept))
    (source / "tokenizer.json").write_text(vocabulary(words))
    given = ["--layout", layout, "--input", str(source), "--out", str(tmp_path / "out"), "--heads", "1", *more]
    return main(["weights", "import", *given])


def test_what_fits_is_imported_and_verified(tmp_path, capsys):
    assert run_import(tmp_path, fuzzing.ARRAYS) == 0
    said = capsys.readouterr().out
    assert f"--config.model.text_encoder.init={tmp_path / 'out'}" in said
    imported = read_imported(tmp_path / "out")
    assert imported.tokenizer_json == vocabulary("abcdefg")
    query = imported.params["text_encoder"]["blocks"]["layer_0"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(query[:, 0], fuzzing.ARRAYS[QUERY].T)
    assert main(["weights", "verify", str(tmp_path / "out")]) == 0
    assert "imported weights, text_encoder from layout bert" in capsys.readouterr().out


def test_a_vocab_txt_beside_the_input_is_taken(tmp_path):
    run_import(tmp_path, fuzzing.ARRAYS)
    (tmp_path / "source" / "tokenizer.json").unlink()
    (tmp_path / "source" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", *"abcdefg"]) + "\n")
    words = ["--layout", "bert", "--input", str(tmp_path / "source"), "--out", str(tmp_path / "two"), "--heads", "1"]
    assert main(["weights", "import", *words]) == 0
    imported = read_imported(tmp_path / "two")
    assert imported.tokenizer_json is not None
    assert tokens_of(imported.tokenizer_json) == ("[PAD]", "[UNK]", *"abcdefg")


def _renamed(name, new):
    return {new if key == name else key: array for key, array in fuzzing.ARRAYS.items()}


def _with_layers(n):
    """The one layer `n` times."""
    layer = [key for key in fuzzing.ARRAYS if ".layer.0." in key]
    more = {key.replace(".0.", f".{i}."): fuzzing.ARRAYS[key] for i in range(1, n) for key in layer}
    return {**fuzzing.ARRAYS, **more}


PLANTED = {
    "a misspelt key": (_renamed(QUERY, QUERY.replace("query", "qeury")), (), ["attention.self.qeury.weight", QUERY]),
    "a missing array": ({k: v for k, v in fuzzing.ARRAYS.items() if k != UP}, (), [UP]),
    "a missing layer": (fuzzing.ARRAYS, ("--layers", "2"), ["layers is 1 in this file, expected 2"]),
    "a missing last layer": (_with_layers(3), (), ["layers is 3 in this file", "say --layers 3"]),
    "a transposed matrix": ({**fuzzing.ARRAYS, UP: fuzzing.ARRAYS[UP].T}, (), [UP, "transposed"]),
    "integers": ({**fuzzing.ARRAYS, UP: fuzzing.ARRAYS[UP].view(np.int32)}, (), [UP, "int32"]),
    "an array too much": ({**fuzzing.ARRAYS, "encoder.extra": np.ones(3, "f4")}, (), ["encoder.extra"]),
    "another layout": (fuzzing.ARRAYS, ("--layout", "timm_vit"), ["this is no timm_vit checkpoint"]),
    "an unknown layout": (fuzzing.ARRAYS, ("--layout", "bret"), ["unknown layout 'bret' (did you mean 'bert'?)"]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_does_not_fit_is_refused_by_its_name(name, tmp_path, capsys):
    arrays, more, says = PLANTED[name]
    assert run_import(tmp_path, arrays, *more) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(text in error for text in says), error
    assert not (tmp_path / "out").exists()


def test_a_config_json_beside_the_input_tells_heads_and_layers(tmp_path, capsys):
    assert run_import(tmp_path, _with_layers(3), "--layers", "3") == 0
    (tmp_path / "out").rename(tmp_path / "three")
    given = ["--layout", "bert", "--input", str(tmp_path / "source"), "--out", str(tmp_path / "out")]
    beside = tmp_path / "source" / "config.json"
    for layers, code in ((4, 2), (3, 0)):
        beside.write_text(json.dumps({"num_attention_heads": 2, "num_hidden_layers": layers}))
        capsys.readouterr()
        assert main(["weights", "import", *given]) == code
    assert read_imported(tmp_path / "out").config["heads"] == 2
    assert read_imported(tmp_path / "three").config["heads"] == 1
    beside.write_text("3")
    assert main(["weights", "import", *given[:-1], str(tmp_path / "other")]) == 2
    assert "is no config.json of a model" in capsys.readouterr().err


def test_a_preprocessor_config_beside_the_input_tells_how_images_were_normalised(tmp_path):
    beside = tmp_path / "preprocessor_config.json"
    assert normalisation_beside(tmp_path) == {}
    beside.write_text(json.dumps({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}))
    told = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert normalisation_beside(tmp_path) == normalisation_beside(tmp_path / "model.safetensors") == told
    beside.write_text(json.dumps({"do_normalize": False}))
    assert normalisation_beside(tmp_path) == {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    beside.write_text("[")
    with pytest.raises(UserError, match=r"is no preprocessor_config\.json"):
        normalisation_beside(tmp_path)


@pytest.mark.parametrize("flag", ["--heads", "--layers", "--image_size"])
def test_numbers_below_one_are_refused(flag, tmp_path, capsys):
    words = ["--layout", "bert", "--input", "nowhere", "--out", str(tmp_path / "out"), flag, "-3"]
    assert main(["weights", "import", *words]) == 2
    assert f"{flag} -3: expected 1 or more" in capsys.readouterr().err


def test_a_directory_that_is_there_is_refused_before_anything_is_read(tmp_path, capsys):
    for words in (["import", "--layout", "bert", "--input", "nowhere"], ["export", "--checkpoint", "nowhere"]):
        assert main(["weights", *words, "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("is there already: give another --out") == 1


def test_the_help_names_every_layout_under_what_it_fills():
    lines = [line.strip() for line in HELP.splitlines() if line.startswith("  ") and ": " in line]
    said = {part: set(names.split(", ")) for part, names in (line.split(": ", 1) for line in lines[:-1])}
    for part in said:
        assert said[part] == {n for n, t in LAYOUTS.items() if t.part == part and not n.endswith("_classifier")}
    assert set().union(*said.values()) == {name for name in LAYOUTS if not name.endswith("_classifier")}


def test_a_vocabulary_of_another_size_is_refused(tmp_path, capsys):
    assert run_import(tmp_path, fuzzing.ARRAYS, words="abc") == 2
    error = capsys.readouterr().err
    assert "5" in error and "9" in error and "tokenizer" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_of_a_masked_autoencoder(zipped, tmp_path, capsys):
    """EndoViT's form in small: `model` is imported; optimiser, arguments and the decoder are listed, each with why."""
    encoder = _load("timm_models").vision_transformer(width=8, layers=2, heads=1, patch=4, image_size=8)
    arrays = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    with_decoder = {**arrays, "mask_token": np.zeros((1, 1, 4), "f4"), "decoder_embed.weight": np.ones((4, 8), "f4")}
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(files.training_checkpoint(with_decoder, zipped))
    given = ["--layout", "mae_vit", "--input", str(path), "--out", str(tmp_path / "out"), "--heads", "1"]
    assert main(["weights", "import", *given]) == 0
    error = capsys.readouterr().err
    lines = error.splitlines()
    for key, why in (("optimizer", "beside the weights"), ("args", "argparse.Namespace"), ("mask_token", "pre-train")):
        assert any(line.startswith("dropped ") and key in line and why in line for line in lines), error
    assert sum("beside the weights" in line for line in lines) == 1, "one line a reason"
    dropped = dict(json.loads((tmp_path / "out" / "weights.json").read_text())["dropped"])
    assert dropped.keys() == {"optimizer", "epoch", "scaler", "args", "mask_token", "decoder_embed.weight"}
    found = read_imported(tmp_path / "out").params["image_encoder"]["class_token"]
    np.testing.assert_array_equal(found, arrays["cls_token"].ravel())


def test_files_that_are_hostile_or_damaged_are_one_line(tmp_path, capsys):
    place = tmp_path / "weights.pt"
    for raw, says in (
        (files.torch_zip_with(files.malicious_pickles(tmp_path)["os.system"]), "os.system"),
        (files.legacy_with(files.malicious_pickles(tmp_path)["eval"]), "builtins.eval"),
        (files.torch_bytes(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
        (files.npz_bytes({"x": np.array([{}], object)}), "x.npy"),
        (safetensors.numpy.save(fuzzing.ARRAYS)[:-1], "does not lie where its header says"),
        (b"", "empty"),
    ):
        place.write_bytes(raw)
        for words in (["verify", str(place)], ["import", "--layout", "bert", "--input", str(place), "--out", "x"]):
            assert main(["weights", *words]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and says in error and str(place) in error, error
    assert not (tmp_path / files.CANARY).exists() and not Path("x").exists()


def test_verify_finds_what_was_changed_after_the_import(tmp_path, capsys):
    assert run_import(tmp_path, fuzzing.ARRAYS) == 0
    params = tmp_path / "out" / "params.safetensors"
    raw = params.read_bytes()
    params.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert main(["weights", "verify", str(tmp_path / "out")]) == 2
    assert "params.safetensors is not the file that was written" in capsys.readouterr().err


def test_values_that_are_not_finite_are_named(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save({**fuzzing.ARRAYS, UP: fuzzing.ARRAYS[UP] + np.inf}))
    assert main(["weights", "verify", str(path)]) == 2
    assert f"not finite in {UP}" in capsys.readouterr().err
