"""Image and text encoders against transformers' torch models with the same random weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.config.schema import ImageEncoderConfig, TextEncoderConfig
from vlm_jax.models.image_encoder import ImageEncoder, normalise, patches
from vlm_jax.models.text_encoder import TextEncoder

WIDTH, HEADS, LAYERS, MLP = 24, 3, 2, 40


def randomised(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Weights large enough that a slip shows; set in place, returned as arrays."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1.0 if parameter.ndim == 1 and "weight" in name else noise)
    module.eval()
    return {k: v.detach().numpy() for k, v in module.state_dict().items()}


def linear(state, name):
    return {"kernel": state[name + ".weight"].T, "bias": state[name + ".bias"]}


def norm(state, name):
    return {"scale": state[name + ".weight"], "bias": state[name + ".bias"]}


def attention(state, query, key, value, out):
    heads = (HEADS, WIDTH // HEADS)
    tree = {
        part: {
            "kernel": state[name + ".weight"].T.reshape(WIDTH, *heads),
            "bias": state[name + ".bias"].reshape(heads),
        }
        for part, name in (("query", query), ("key", key), ("value", value))
    }
    return {**tree, "out": {"kernel": state[out + ".weight"].T.reshape(*heads, WIDTH), "bias": state[out + ".bias"]}}


def block(state, prefix, names):
    """One layer from the names of (query, key, value, out, up, down, norm_1, norm_2)."""
    query, key, value, out, up, down, norm_1, norm_2 = (prefix + n for n in names)
    return {
        "attention": attention(state, query, key, value, out),
        "mlp": {"up": linear(state, up), "down": linear(state, down)},
        "norm_1": norm(state, norm_1),
        "norm_2": norm(state, norm_2),
    }


def find(state: dict, ending: str) -> str:
    """The one name that ends so: transformers renames the middle of its modules between versions."""
    found = [k for k in state if k.endswith(ending)]
    assert len(found) == 1, (ending, found, list(state))
    return found[0].removesuffix(".weight").removesuffix(".bias")


def vit_layer(state, i):
    keys = [k for k in state if f"layer.{i}." in k or f"layers.{i}." in k]
    one = {k: state[k] for k in keys}
    ends = []
    for options in (
        ("query.weight", "q_proj.weight"),
        ("key.weight", "k_proj.weight"),
        ("value.weight", "v_proj.weight"),
        ("attention.output.dense.weight", "o_proj.weight"),
        ("intermediate.dense.weight", "fc1.weight"),
        (f"{i}.output.dense.weight", "fc2.weight"),
        ("layernorm_before.weight",),
        ("layernorm_after.weight",),
    ):
        ends.append(next(find(one, end) for end in options if any(k.endswith(end) for k in one)))
    return block(state, "", ends)


def vit_case(layers: int, patch: int, side: int, channels: int = 3):
    """transformers' ViT over side x side patches with random weights, and these weights as our tree."""
    theirs = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=MLP,
            image_size=side * patch,
            patch_size=patch,
            num_channels=channels,
            layer_norm_eps=1e-6,
            hidden_act="gelu",
        ),
        add_pooling_layer=False,
    )
    state = randomised(theirs)
    projection = find(state, "patch_embeddings.projection.weight")
    params = {
        "class_token": state[find(state, "cls_token")].reshape(WIDTH),
        "position_embedding": state[find(state, "position_embeddings")][0],
        "patch_embedding": {
            "kernel": state[projection + ".weight"].transpose(2, 3, 1, 0).reshape(-1, WIDTH),
            "bias": state[projection + ".bias"],
        },
        "blocks": {f"layer_{i}": vit_layer(state, i) for i in range(layers)},
        "norm": norm(state, "layernorm"),
    }
    return theirs, params


def test_vit_equals_transformers():
    config = ImageEncoderConfig(width=WIDTH, layers=LAYERS, heads=HEADS, mlp=MLP, patch=8)
    theirs, params = vit_case(LAYERS, 8, 4)
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    ours = jax.jit(ImageEncoder(config, 32).apply)({"params": params}, image)
    pixels = (torch.from_numpy(image).float() / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)
    with torch.no_grad():
        expected = theirs(pixels.permute(0, 3, 1, 2)).last_hidden_state.numpy()
    assert expected.shape == (2, 17, WIDTH)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_the_hybrid_equals_torch():
    """Places of a convolutional map are tokens: patches of one "pixel" where transformers sees an image."""
    config = ImageEncoderConfig(width=WIDTH, layers=1, heads=HEADS, mlp=MLP, patch=32, stem="backbone")
    theirs, params = vit_case(1, 1, 3, channels=24)
    features = np.random.default_rng(0).normal(0, 1, (2, 3, 3, 24)).astype(np.float32)
    ours = jax.jit(ImageEncoder(config, 96).apply)({"params": params}, features)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(features).permute(0, 3, 1, 2)).last_hidden_state.numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5)


BERT_NAMES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
    "attention.output.LayerNorm",
    "output.LayerNorm",
)
DISTIL_NAMES = (
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "ffn.lin1",
    "ffn.lin2",
    "sa_layer_norm",
    "output_layer_norm",
)


def text_case(kind: str):
    """(torch model, our configuration, our parameters) of MiniLM's or DistilBERT's shape."""
    if kind == "bert":
        theirs = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=50,
                hidden_size=WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                intermediate_size=MLP,
                max_position_embeddings=16,
            ),
            add_pooling_layer=False,
        )
        prefix, names = "encoder.layer.{}.", BERT_NAMES
    else:
        theirs = transformers.DistilBertModel(
            transformers.DistilBertConfig(
                vocab_size=50, dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=MLP, max_position_embeddings=16
            )
        )
        prefix, names = "transformer.layer.{}.", DISTIL_NAMES
    state = randomised(theirs)
    params = {
        "word_embedding": state["embeddings.word_embeddings.weight"],
        "position_embedding": state["embeddings.position_embeddings.weight"],
        "embedding_norm": norm(state, "embeddings.LayerNorm"),
        "blocks": {f"layer_{i}": block(state, prefix.format(i), names) for i in range(LAYERS)},
    }
    if kind == "bert":
        params["token_type_embedding"] = state["embeddings.token_type_embeddings.weight"]
    types = 2 if kind == "bert" else 0
    return theirs, TextEncoderConfig(WIDTH, LAYERS, HEADS, MLP, positions=16, token_types=types), params


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_text_encoder_equals_transformers(kind):
    theirs, config, params = text_case(kind)
    tokens = np.random.default_rng(0).integers(1, 50, (3, 9), dtype=np.int32)
    tokens[1, 5:] = 0
    encoder = TextEncoder(config, vocab_size=50)
    abstract = jax.eval_shape(encoder.init, jax.random.key(0), tokens)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, abstract)
    ours = np.asarray(jax.jit(encoder.apply)({"params": params}, tokens))
    keep = tokens != 0
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens).long(), attention_mask=torch.from_numpy(keep).long())
    np.testing.assert_allclose(ours[keep], expected.last_hidden_state.numpy()[keep], atol=2e-5)


def test_an_empty_prompt_is_finite():
    _, config, params = text_case("bert")
    out = jax.jit(TextEncoder(config, vocab_size=50).apply)({"params": params}, np.zeros((2, 6), np.int32))
    assert np.isfinite(np.asarray(out)).all()


def test_normalisation_is_of_values_in_0_to_1():
    config = ImageEncoderConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = np.array([[[[0, 255, 51]]]], np.uint8)
    expected = np.array([[[[-1.0, 3.0, 0.2]]]])
    np.testing.assert_allclose(normalise(jnp.asarray(image), config, jnp.float32), expected, rtol=1e-6)
    floats = jnp.asarray(image, jnp.float32)
    assert np.array_equal(normalise(floats, config, jnp.float32), normalise(jnp.asarray(image), config, jnp.float32))


def test_patches_run_by_row_and_keep_pixels_in_order():
    image = jnp.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    cut = patches(image, 2)
    assert cut.shape == (1, 6, 12)
    assert np.array_equal(cut[0, 1], image[0, :2, 2:4].ravel())
    assert np.array_equal(cut[0, 3], image[0, 2:, :2].ravel())


def test_dropout_in_training_only():
    config = TextEncoderConfig(width=8, layers=1, heads=2, mlp=12, positions=8)
    encoder = TextEncoder(config, vocab_size=20, dropout=0.5)
    tokens = jnp.ones((2, 4), jnp.int32)
    params = jax.jit(encoder.init)(jax.random.key(0), tokens)
    plain = jax.jit(encoder.apply)(params, tokens)
    train = jax.jit(lambda key: encoder.apply(params, tokens, train=True, rngs={"dropout": key}))
    runs = [train(jax.random.key(i)) for i in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], plain)


def test_bfloat16_activations_float32_parameters():
    config = ImageEncoderConfig(width=8, layers=1, heads=2, mlp=12, patch=8)
    encoder = ImageEncoder(config, 16, dtype=jnp.bfloat16)
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    params = jax.jit(encoder.init)(jax.random.key(0), image)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out = jax.jit(encoder.apply)(params, image)
    exact = jax.jit(ImageEncoder(config, 16).apply)(params, image)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), exact, atol=0.06)
