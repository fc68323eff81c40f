"""The import engine: everything consumed, everything filled, or refused by name; nothing lost on disk."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import torch

from vlm_jax.errors import UserError
from vlm_jax.weights import vocabulary
from vlm_jax.weights.importer import import_weights
from vlm_jax.weights.interpolate import resize_positions
from vlm_jax.weights.layouts import LAYOUTS
from vlm_jax.weights.store import read_imported, write_imported

WIDTH, MLP, LAYERS, VOCAB = 8, 12, 3, 20


def vit_arrays(prefix: str = "") -> dict[str, np.ndarray]:
    """A checkpoint of the layout timm_vit: patch 4 at 16 pixels."""
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 17, WIDTH), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes |= {"patch_embed.proj.weight": (WIDTH, 3, 4, 4), "patch_embed.proj.bias": (WIDTH,)}
    for i in range(LAYERS):
        layer = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
        layer |= {"mlp.fc1": (MLP, WIDTH), "mlp.fc2": (WIDTH, MLP)}
        for name, shape in layer.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.{end}": (WIDTH,) for end in ("weight", "bias")}
    return drawn(shapes, prefix)


def bert_arrays(prefix: str = "") -> dict[str, np.ndarray]:
    """A checkpoint of the layout bert."""
    shapes = {"word": (VOCAB, WIDTH), "position": (16, WIDTH), "token_type": (2, WIDTH)}
    shapes = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        layer = {f"{at}attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        layer |= {at + "attention.output.dense": (WIDTH, WIDTH)}
        layer |= {at + "intermediate.dense": (MLP, WIDTH), at + "output.dense": (WIDTH, MLP)}
        for name, shape in layer.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
    shapes |= {f"{name}.{end}": (WIDTH,) for name in norms for end in ("weight", "bias")}
    return drawn(shapes, prefix)


def drawn(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {prefix + name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def without(arrays: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in arrays.items() if part not in name}


def renamed(arrays: dict[str, np.ndarray], old: str, new: str) -> dict[str, np.ndarray]:
    return {name.replace(old, new): value for name, value in arrays.items()}


def transposed(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {**arrays, name: arrays[name].T}


def tokenizer_json(tokens: list[str]) -> str:
    return vocabulary.from_lines(tokens)


# --- Refusals ---------------------------------------------------------------------------------------------------------

VIT, BERT = vit_arrays(), bert_arrays()
MISSPELT = renamed(VIT, "blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc1.wieght")


@pytest.mark.parametrize(
    ("layout", "arrays", "said"),
    [
        (
            "timm_vit",
            MISSPELT,
            "unknown +blocks.1.mlp.fc1.wie",
        ),
        (
            "timm_vit",
            MISSPELT,
            "missing +blocks.1.mlp.fc1.we",
        ),
        ("timm_vit", without(VIT, "blocks.1."), r"missing +blocks\.1\.attn\.qkv\.weight"),
        ("timm_vit", without(VIT, "blocks.0.attn.qkv.bias"), r"missing +blocks\.0\.attn\.qkv\.bias"),
        ("timm_vit", transposed(VIT, "blocks.2.mlp.fc1.weight"), r"blocks\.2\.mlp\.fc1\.weight.*looks transposed"),
        ("timm_vit", transposed(VIT, "blocks.2.attn.qkv.weight"), r"blocks\.2\.attn\.qkv\.weight.*looks transposed"),
        ("timm_vit", {**VIT, "blocks.0.ls1.gamma": np.ones(8)}, r"unknown +blocks\.0\.ls1\.gamma"),
        ("timm_vit", without(VIT, "pos_embed"), "no timm_vit checkpoint: it lacks pos_embed"),
        ("timm_vit", BERT, "no timm_vit checkpoint"),
        ("timm_vit", {**VIT, "model.norm.bias": np.ones(8)}, "'norm.bias' and 'model.norm.bias' stand for one"),
        ("endovit", VIT, "width is 8 in this file, expected 768"),
        ("timm_vitt", VIT, "did you mean 'timm_vit'"),
        ("bert", renamed(BERT, "layer.1.attention.self.query", "layer.1.attention.self.qeury"), "unknown .*qeury.bias"),
        ("bert", without(BERT, "layer.0."), r"missing +encoder\.layer\.0\.attention\.self\.query\.weight"),
        ("bert", transposed(BERT, "encoder.layer.0.output.dense.weight"), r"layer\.0\.output\.dense.*looks transposed"),
        ("bert", VIT, "lacks embeddings.word_embeddings.weight"),
        ("distilbert", BERT, "no distilbert checkpoint"),
    ],
)
def test_refused_by_name(layout, arrays, said):
    with pytest.raises(UserError, match=said):
        import_weights(layout, arrays, heads=2)


def test_a_missing_last_layer_is_noticed_where_the_depth_is_known():
    import_weights("bert", without(BERT, "layer.2."), heads=2)
    with pytest.raises(UserError, match="layers is 2 in this file, expected 3; some layers are missing"):
        import_weights("bert", without(BERT, "layer.2."), heads=2, layers=3)


def test_wrong_vocabulary_is_refused():
    fitting = tokenizer_json(["[PAD]", "[UNK]", *(f"w{i}" for i in range(VOCAB - 2))])
    assert import_weights("bert", BERT, heads=2, vocabulary=fitting).tokenizer_json == fitting
    for n in (VOCAB // 2, VOCAB + 1):
        other = tokenizer_json(["[PAD]", "[UNK]", *(f"w{i}" for i in range(n - 2))])
        with pytest.raises(UserError, match=f"wrong vocabulary: the word embedding has 20 rows, the tokenizer {n}"):
            import_weights("bert", BERT, heads=2, vocabulary=other)
    with pytest.raises(UserError, match="no vocabulary"):
        import_weights("timm_vit", VIT, heads=2, vocabulary=fitting)
    with pytest.raises(UserError, match="not a tokenizer.json"):
        import_weights("bert", BERT, heads=2, vocabulary="{}")


def test_heads_that_do_not_divide():
    with pytest.raises(UserError, match="3 heads do not divide the width 8"):
        import_weights("bert", BERT, heads=3)


# --- What comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert.", "module.", "0.auto_model."])
def test_prefixes_change_nothing(prefix):
    plain, prefixed = import_weights("bert", BERT, heads=2), import_weights("bert", bert_arrays(prefix), heads=2)
    jax.tree.map(np.testing.assert_array_equal, plain.params, prefixed.params)


def test_half_precision_becomes_float32():
    arrays = {name: value.astype(np.float16) for name, value in VIT.items()}
    imported = import_weights("timm_vit", arrays, heads=2)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(imported.params)} == {"float32"}
    np.testing.assert_array_equal(imported.params["image_encoder"]["norm"]["bias"], arrays["norm.bias"])


def test_every_layout_says_what_it_is():
    for name, layout in LAYOUTS.items():
        assert layout.name == name
        assert layout.part
        assert layout.source


@pytest.mark.parametrize(("old", "new"), [(4, 7), (14, 4), (14, 24), (3, 6)])
def test_positions_as_torch_interpolates_them(old, new):
    table = np.random.default_rng(0).normal(size=(1 + old * old, 6)).astype(np.float32)
    square = torch.from_numpy(table[1:].reshape(1, old, old, 6)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    ours = resize_positions(table, new)
    np.testing.assert_array_equal(ours[0], table[0])
    np.testing.assert_allclose(ours[1:], resized.permute(0, 2, 3, 1).reshape(-1, 6).numpy(), atol=1e-5)


def test_image_size_at_import():
    imported = import_weights("timm_vit", VIT, heads=2, image_size=32)
    assert imported.config["image_size"] == 32
    assert imported.params["image_encoder"]["position_embedding"].shape == (65, WIDTH)
    with pytest.raises(UserError, match="multiple of the patch, 4"):
        import_weights("timm_vit", VIT, heads=2, image_size=30)
    with pytest.raises(UserError, match="only a vision transformer"):
        import_weights("bert", BERT, heads=2, image_size=32)


def test_written_and_read_again(tmp_path):
    words = tokenizer_json(["[PAD]", "[UNK]", *(f"w{i}" for i in range(VOCAB - 2))])
    arrays = {**BERT, "pooler.dense.bias": np.ones(8)}
    imported = import_weights(
        "bert", arrays, heads=2, vocabulary=words, source_sha256="ab", skipped=[("args", "inert")]
    )
    write_imported(imported, tmp_path / "a")
    again = read_imported(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, imported.params, again.params)
    assert (again.config, again.dropped, again.tokenizer_json) == (imported.config, imported.dropped, words)
    assert dict(again.dropped)["args"] == "inert"
    write_imported(again, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    with pytest.raises(UserError, match="is there already"):
        write_imported(imported, tmp_path / "a")


def test_damage_on_disk_is_refused(tmp_path):
    write_imported(import_weights("timm_vit", VIT, heads=2), tmp_path / "a")
    params = tmp_path / "a" / "params.safetensors"
    good = params.read_bytes()
    params.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match="not the file that was written"):
        read_imported(tmp_path / "a")
    params.write_bytes(good)
    about = tmp_path / "a" / "weights.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": "other"}))
    with pytest.raises(UserError, match="format 'other'"):
        read_imported(tmp_path / "a")
    with pytest.raises(UserError, match="holds no imported weights"):
        read_imported(tmp_path / "nowhere")


def test_vocabulary_files(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nnose\n##s\n")
    assert vocabulary.tokens_of(vocabulary.read(tmp_path)) == ("[PAD]", "[UNK]", "nose", "##s")
    lower = [json.loads(vocabulary.from_lines(["[UNK]", word]))["normalizer"]["lowercase"] for word in ("nose", "Nose")]
    assert lower == [True, False], "cased words stay as they are"
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 2}}}))
    assert vocabulary.tokens_of(vocabulary.read(tmp_path)) == ("a", "", "b")
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        vocabulary.read(tmp_path / "other.txt")
