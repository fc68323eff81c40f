"""Image and text encoders against timm and transformers, through the importer: final hidden states, random weights.

`benchmarks/parity.py` runs these tests and writes down the figure that each of them records.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.config.schema import ImageEncoderConfig, TextEncoderConfig
from vlm_jax.metrics.similarity import MINILM_PACKAGE
from vlm_jax.models.image_encoder import ImageEncoder
from vlm_jax.models.text_encoder import TextEncoder
from vlm_jax.weights.importer import Imported, import_weights
from vlm_jax.weights.layouts.vit import _heads as vit_heads

TOLERANCE = 1e-4


def load_sibling(name: str) -> Any:
    """A module beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomise(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Weights away from their start, such that hidden states stay of order one; set in place, returned as arrays."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if parameter.ndim == 1 else min(0.3, 2.0 * parameter.shape[-1] ** -0.5)
            parameter.copy_(noise * scale + (1.0 if parameter.ndim == 1 and "weight" in name else 0.0))
    module.eval()
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def saved(model: Any, folder: Path) -> dict[str, np.ndarray]:
    """The arrays as transformers writes them, whose names differ from those in memory."""
    from safetensors.numpy import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def sized(small: Any, *published: Any) -> Any:
    """The narrow model by default, the published sizes in slow tests."""
    slow = [pytest.param(size, marks=pytest.mark.slow, id="-".join(map(str, size))) for size in published]
    return pytest.mark.parametrize("size", [pytest.param(small, id="narrow"), *slow])


def heads_of(size: Any) -> int | None:
    """For the narrow models; the layout knows those of the published sizes."""
    return size[2] if size[0] < 100 else None


def section(kind: Any, imported: Imported) -> Any:
    """The imported config fragment as the schema's dataclass."""
    names = kind.__dataclass_fields__.keys()
    return kind(**{k: v for k, v in imported.config.items() if k in names})


def encode_image(imported: Imported, image: np.ndarray) -> np.ndarray:
    encoder = ImageEncoder(section(ImageEncoderConfig, imported), imported.config["image_size"])
    return np.asarray(jax.jit(encoder.apply)({"params": imported.params["image_encoder"]}, image))


def encode_text(imported: Imported, tokens: np.ndarray) -> np.ndarray:
    encoder = TextEncoder(section(TextEncoderConfig, imported), imported.config["vocab_size"])
    return np.asarray(jax.jit(encoder.apply)({"params": imported.params["text_encoder"]}, tokens))


def images(imported: Imported, batch: int = 2) -> tuple[np.ndarray, torch.Tensor]:
    """uint8 images for us, normalised ones for torch."""
    size = imported.config["image_size"]
    image = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    mean, std = (np.asarray(imported.config[k], np.float32) for k in ("mean", "std"))
    return image, torch.from_numpy(((image / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


def compare(record: Any, layout: str, oracle: str, size: Any, ours: np.ndarray, theirs: torch.Tensor) -> None:
    """Asserts and records the greatest difference of final hidden states."""
    expected = theirs.detach().numpy()
    assert expected.std() > 0.1, "the oracle's output must say something"
    difference = float(np.abs(ours - expected).max())
    row = {"layout": layout, "oracle": oracle, "size": size, "output": "final hidden states"}
    record("parity", json.dumps({**row, "max_abs_difference": difference, "max_abs": float(np.abs(expected).max())}))
    assert difference < TOLERANCE


# --- Vision transformers: (width, layers, heads, patch, image size) ---------------------------------------------------

NARROW_VIT = (48, 2, 3, 8, 32)
VIT_S, VIT_B = (384, 12, 6, 16, 224), (768, 12, 12, 16, 224)


@sized(NARROW_VIT, VIT_S, VIT_B)
def test_timm_vit(size, record_property):
    oracle = load_sibling("timm_models").vision_transformer(*size, n_classes=5)
    imported = import_weights("timm_vit", randomise(oracle), heads=heads_of(size), layers=size[1])
    assert [key for key, _ in imported.dropped] == ["head.weight", "head.bias"]
    image, x = images(imported)
    compare(record_property, "timm_vit", "timm", size, encode_image(imported, image), oracle.forward_features(x))


def mae_checkpoint(size: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The encoder, which is timm's, and the arrays of a checkpoint of pre-training: decoder, mask token, optimiser."""
    oracle = load_sibling("timm_models").vision_transformer(*size)
    arrays = {f"model.{name}": value for name, value in randomise(oracle).items()}
    rest = ("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.attn.qkv.weight")
    arrays.update({f"model.{name}": np.ones((1, 1, 8), np.float32) for name in rest})
    return oracle, {**arrays, "optimizer.state.0.exp_avg": np.ones(3), "epoch": np.asarray(3)}


@pytest.mark.parametrize(
    ("layout", "size"),
    [("mae_vit", NARROW_VIT)]
    + [pytest.param(name, VIT_B, marks=pytest.mark.slow, id=f"{name}-B") for name in ("mae_vit", "endovit")],
)
def test_mae_and_endovit(layout, size, record_property):
    oracle, arrays = mae_checkpoint(size)
    imported = import_weights(layout, arrays, heads=heads_of(size))
    assert {key.removeprefix("model.").split(".")[0] for key, _ in imported.dropped} == {
        *("mask_token", "decoder_pos_embed", "decoder_embed", "decoder_blocks", "optimizer", "epoch")
    }
    image, x = images(imported)
    compare(record_property, layout, "timm", size, encode_image(imported, image), oracle.forward_features(x))


def hf_vit_options(size: Any) -> dict[str, Any]:
    width, layers, heads, patch, image_size = size
    options = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**options, "intermediate_size": 4 * width, "patch_size": patch, "image_size": image_size}


@sized(NARROW_VIT, VIT_B)
def test_hf_vit(size, tmp_path, record_property):
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**hf_vit_options(size)))
    in_memory = randomise(model)
    on_disk = saved(model, tmp_path)
    imported = import_weights("hf_vit", on_disk, heads=heads_of(size))
    again = import_weights("hf_vit", in_memory, heads=heads_of(size))
    jax.tree.map(np.testing.assert_array_equal, imported.params, again.params)
    assert {key for key, _ in imported.dropped} == {"classifier.weight", "classifier.bias"}
    image, x = images(imported)
    expected = model.vit(x).last_hidden_state
    compare(record_property, "hf_vit", "transformers", size, encode_image(imported, image), expected)


@sized(NARROW_VIT, VIT_S)
def test_hf_deit_without_its_distillation_token(size, tmp_path, record_property):
    model = transformers.DeiTModel(transformers.DeiTConfig(**hf_vit_options(size)))
    randomise(model)
    imported = import_weights("hf_deit", saved(model, tmp_path), heads=heads_of(size))
    assert "embeddings.distillation_token" in {key for key, _ in imported.dropped}
    model.embeddings.register_forward_hook(lambda _, __, out: torch.cat([out[:, :1], out[:, 2:]], dim=1))
    image, x = images(imported)
    expected = model(x).last_hidden_state
    compare(record_property, "hf_deit", "transformers", size, encode_image(imported, image), expected)


# --- The BERT family: (width, layers, heads, MLP, vocabulary) ---------------------------------------------------------

NARROW_BERT = (48, 2, 4, 80, 50)


def bert_inputs(vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of tokens, one padded, and what counts of them."""
    tokens = np.random.default_rng(2).integers(1, vocab, (2, 16)).astype(np.int32)
    tokens[1, 9:] = 0
    return tokens, tokens != 0


def compare_text(record: Any, layout: str, size: Any, imported: Imported, model: Any) -> None:
    tokens, mask = bert_inputs(size[-1])
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens).long(), torch.from_numpy(mask).long()).last_hidden_state
    ours = encode_text(imported, tokens)
    compare(record, layout, "transformers", size, ours[mask], expected[torch.from_numpy(mask)])


def bert(size: Any) -> Any:
    width, layers, heads, mlp, vocab = size
    config = transformers.BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        vocab_size=vocab,
    )
    return transformers.BertForPreTraining(config)


BERT_SIZES = [
    ("bert", NARROW_BERT),
    ("minilm", NARROW_BERT),
    ("pubmedbert", NARROW_BERT),
    pytest.param("bert", (768, 12, 12, 3072, 30522), marks=pytest.mark.slow),
    pytest.param("minilm", (384, 12, 12, 1536, 30522), marks=pytest.mark.slow),
    pytest.param("pubmedbert", (768, 12, 12, 3072, 30522), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("layout", "size"), BERT_SIZES)
def test_bert_family(layout, size, record_property):
    model = bert(size)
    arrays = randomise(model)
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in arrays.items()}  # fmt: skip
    old["bert.embeddings.position_ids"] = np.arange(512)[None]
    imported = import_weights(layout, old, heads=heads_of(size), layers=size[1])
    assert {key.split(".")[0] for key, _ in imported.dropped} == {"cls", "bert"}  # the heads; pooler and position_ids
    plain = import_weights(layout, {k.removeprefix("bert."): v for k, v in arrays.items()}, heads=heads_of(size))
    jax.tree.map(np.testing.assert_array_equal, imported.params, plain.params)
    compare_text(record_property, layout, size, imported, model.bert)


@sized(NARROW_BERT, (768, 6, 12, 3072, 30522))
def test_distilbert(size, record_property):
    width, layers, heads, mlp, vocab = size
    config = transformers.DistilBertConfig(
        dim=width, n_layers=layers, n_heads=heads, hidden_dim=mlp, vocab_size=vocab, attn_implementation="eager"
    )
    model = transformers.DistilBertForMaskedLM(config)
    imported = import_weights("distilbert", randomise(model), heads=heads_of(size))
    assert imported.config["token_types"] == 0
    compare_text(record_property, "distilbert", size, imported, model.distilbert)


# --- Real weights -----------------------------------------------------------------------------------------------------

SENTENCES = (
    "The middle nasal concha is medialised with the elevator.",
    "Polyps fill the left ethmoid sinus, and the uncinate process is removed.",
    "ok",
)


@pytest.mark.skipif(importlib.util.find_spec(MINILM_PACKAGE) is None, reason="its package is not installed")
def test_sentence_embeddings_of_the_published_minilm(record_property):
    """all-MiniLM-L6-v2: mean over the tokens, unit length, as sentence-transformers does with the torch model."""
    import tokenizers

    from vlm_jax.metrics.similarity import minilm

    ours = minilm()
    assert ours is not None
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    assert spec and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    rows = []
    for sentence in SENTENCES:
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer.encode(sentence).ids])).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(hidden.mean(0), dim=0))
    expected = torch.stack(rows).numpy()
    difference = float(np.abs(ours.embed(SENTENCES) - expected).max())
    row = {"layout": "minilm", "oracle": "transformers", "size": "all-MiniLM-L6-v2, published weights"}
    row["output"] = "sentence embeddings"
    record_property(
        "parity", json.dumps({**row, "max_abs_difference": difference, "max_abs": float(np.abs(expected).max())})
    )
    assert difference < 1e-5


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1408, 16)])
def test_published_vision_transformers_have_their_heads(width, heads):
    """Ti to L, H and g; those of H and g are wider than 64."""
    assert vit_heads({"width": width}) == heads
