"""Sizes against paper.md's table, and what is wrong with a configuration in one line."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from vlm_jax.config import schema
from vlm_jax.config.load import load_config
from vlm_jax.errors import UserError
from vlm_jax.models import build_model, init_params, parameter_table
from vlm_jax.models.build import resolve_dtype, why_no_cudnn

LIGHT = schema.ModelConfig(vocab_size=30720)
BASE = schema.ModelConfig(
    image_encoder=schema.ImageEncoderConfig(width=768, layers=12, heads=12, mlp=3072),
    text_encoder=schema.TextEncoderConfig(width=768, layers=6, heads=12, mlp=3072, token_types=0),
    decoder=schema.DecoderConfig(layers=2, heads=12, mlp=3072),
    vocab_size=30720,
)


def table(model: schema.ModelConfig, n_tokens: int) -> dict[str, int]:
    config = schema.Config(model=model)
    built = build_model(config, 20, n_tokens)
    return parameter_table(jax.eval_shape(lambda key: init_params(built, config, key), jax.random.key(0)))


@pytest.mark.parametrize(
    ("model", "published", "parts"),
    [
        (LIGHT, 61.03, {"image_encoder": 21.67, "text_encoder": 33.36, "fusion": 1.19, "decoder": 4.73, "other": 0.09}),
        (
            BASE,
            175.94,
            {"image_encoder": 85.80, "text_encoder": 66.36, "fusion": 4.73, "decoder": 18.90, "other": 0.14},
        ),
    ],
    ids=["light", "base"],
)
def test_sizes_are_the_papers(model, published, parts):
    counts = {name: n / 1e6 for name, n in table(model, 30522).items()}
    assert counts.pop("total") == pytest.approx(published, rel=0.01)
    for name, millions in parts.items():
        assert counts[name] == pytest.approx(millions, rel=0.01, abs=0.011), name


def test_without_padding_the_counts_are_exact():
    """paper.md: with 30,522 words light is 60.88 M, its encoder ViT-S's 21,665,664 and base is 175.94 M."""
    light = table(dataclasses.replace(LIGHT, vocab_size=0), 30522)
    assert light["image_encoder"] == 21_665_664
    assert round(light["total"] / 1e6, 2) in (60.88, 60.89)
    assert round(table(dataclasses.replace(BASE, vocab_size=0), 30522)["total"] / 1e6, 2) == pytest.approx(
        175.94, abs=0.01
    )


def config_with(**changes) -> schema.Config:
    """Dotted keys, with __ for the dots."""
    config = schema.Config()
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        chain = [config]
        for name in parents:
            chain.append(getattr(chain[-1], name))
        new = dataclasses.replace(chain[-1], **{leaf: value})
        for parent, name in zip(reversed(chain[:-1]), reversed(parents), strict=True):
            new = dataclasses.replace(parent, **{name: new})
        config = new
    return config


def test_the_fused_kernel_gives_way_where_it_cannot_run():
    config = load_config("configs/vlm.py:micro", {"model.attention": "cudnn"})
    assert build_model(config, 3, 50).config.attention == "xla"
    assert "CPU" in why_no_cudnn(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "vml"}, "expected one of vlm"),
        ({"tasks": ()}, "expected one or more of landmarks"),
        ({"tasks": ("landmark",)}, "expected one or more of landmarks"),
        ({"model__fusion": "sum"}, "expected cross_attention, concat, pooled or separate"),
        ({"model__attention": "flash"}, "expected xla or cudnn"),
        ({"model__dtype": "float16"}, "expected auto, float32 or bfloat16"),
        ({"model__decoder__heads": 5}, "config.model.decoder.heads is 5"),
        ({"model__fusion_heads": 0}, "config.model.fusion_heads is 0"),
        ({"data__image_size": 100}, "a multiple of the patch, 16"),
        ({"data__prompt_length": 513}, "text_encoder.positions is 512"),
        ({"data__target_length": 129}, "decoder.positions is 128"),
        ({"model__vocab_size": 10}, "the tokenizer has 50 words"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        build_model(config_with(**changes), 5, 50)
    assert "\n" not in str(caught.value)


def test_tasks_come_in_the_contracts_order():
    model = build_model(config_with(tasks=("report", "landmarks")), 5, 50)
    assert model.tasks == ("landmarks", "report")


def test_dtype_follows_the_device(monkeypatch):
    assert resolve_dtype("bfloat16") == jnp.bfloat16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert resolve_dtype("auto") == jnp.bfloat16
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert resolve_dtype("auto") == jnp.float32


def test_weights_start_small_and_biases_at_zero():
    config = config_with(
        model=schema.ModelConfig(
            image_encoder=schema.ImageEncoderConfig(width=48, layers=1, heads=2, mlp=96, patch=8),
            text_encoder=schema.TextEncoderConfig(width=48, layers=1, heads=2, mlp=96),
            decoder=schema.DecoderConfig(layers=1, heads=2, mlp=96),
            fusion_heads=2,
        ),
        data=schema.DataConfig(image_size=16),
    )
    model = build_model(config, 5, 300)
    quick = {"xla_backend_optimization_level": 0}
    init = jax.jit(lambda key: init_params(model, config, key), compiler_options=quick)
    params = init(jax.random.key(0))
    expected = 0.02 * (768 / 48) ** 0.5
    assert float(params["text_encoder"]["word_embedding"].std()) == pytest.approx(0.88 * expected, rel=0.05)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert leaf.dtype == jnp.float32, name
        if name.endswith("bias"):
            assert not leaf.any(), name
        elif name.endswith("scale"):
            assert (leaf == 1).all(), name
        else:
            assert float(abs(leaf).max()) <= 2.01 * expected, name
