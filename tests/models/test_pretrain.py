"""Masked autoencoder and masked language model against transformers' on the same weights, noise and masks."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.config.schema import ImageEncoderConfig, LossConfig, MaeConfig, TextEncoderConfig
from vlm_jax.models.image_encoder import ImageEncoder
from vlm_jax.models.positions import sincos_2d
from vlm_jax.models.pretrain.mae import Mae, visible_patches
from vlm_jax.models.pretrain.mlm import MaskedLanguage
from vlm_jax.models.state import Outputs
from vlm_jax.tasks import TASK_TABLE, LossContext
from vlm_jax.tasks.base import loss

IMAGE = ImageEncoderConfig(width=24, layers=2, heads=3, mlp=40, patch=8)
DECODER = MaeConfig(decoder_width=16, decoder_layers=2, decoder_heads=2, decoder_mlp=20)
TEXT = TextEncoderConfig(width=24, layers=2, heads=3, mlp=40, positions=20)
CONTEXT = LossContext(LossConfig(), (), n_tokens=50)


def quick(fn):
    """Jitted for few calls."""
    return jax.jit(fn, compiler_options={"xla_backend_optimization_level": 0})


def randomised(module):
    """Weights large enough that a slip shows; fixed positions stay as they are."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.copy_(noise + 1.0 if parameter.ndim == 1 and "weight" in name else noise)
    module.eval()
    return {k: v.detach().numpy() for k, v in module.state_dict().items()}


def linear(state, name):
    return {"kernel": state[name + ".weight"].T, "bias": state[name + ".bias"]}


def norm(state, name):
    return {"scale": state[name + ".weight"], "bias": state[name + ".bias"]}


def blocks(state, prefix, names, heads, n=2):
    """`n` layers, from the names of (query, key, value, out, up, down, norm_1, norm_2)."""

    def split(name):
        weight = state[name + ".weight"]
        return {
            "kernel": weight.T.reshape(weight.shape[1], heads, -1),
            "bias": state[name + ".bias"].reshape(heads, -1),
        }

    def layer(i):
        query, key, value, out, up, down, norm_1, norm_2 = (f"{prefix}.{i}.{name}" for name in names)
        joined = linear(state, out)
        attention = {"query": split(query), "key": split(key), "value": split(value)}
        attention["out"] = {"kernel": joined["kernel"].reshape(heads, -1, len(joined["bias"])), "bias": joined["bias"]}
        return {
            "attention": attention,
            "mlp": {"up": linear(state, up), "down": linear(state, down)},
            "norm_1": norm(state, norm_1),
            "norm_2": norm(state, norm_2),
        }

    return {f"layer_{i}": layer(i) for i in range(n)}


VIT_NAMES = (
    *(f"attention.{part}_proj" for part in "qkvo"), "mlp.fc1", "mlp.fc2", "layernorm_before", "layernorm_after"
)  # fmt: skip
BERT_NAMES = (
    *(f"attention.self.{part}" for part in ("query", "key", "value")), "attention.output.dense", "intermediate.dense",
    "output.dense", "attention.output.LayerNorm", "output.LayerNorm",
)  # fmt: skip


def their_mae(normalise_pixels):
    config = transformers.ViTMAEConfig(
        hidden_size=IMAGE.width,
        num_hidden_layers=IMAGE.layers,
        num_attention_heads=IMAGE.heads,
        intermediate_size=IMAGE.mlp,
        image_size=32,
        patch_size=IMAGE.patch,
        decoder_hidden_size=DECODER.decoder_width,
        decoder_num_hidden_layers=DECODER.decoder_layers,
        decoder_num_attention_heads=DECODER.decoder_heads,
        decoder_intermediate_size=DECODER.decoder_mlp,
        norm_pix_loss=normalise_pixels,
        layer_norm_eps=1e-6,
    )
    model = transformers.ViTMAEForPreTraining(config)
    with torch.no_grad():  # its own start leaves the fixed positions at zero, and is called done
        model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
        model.vit.embeddings.initialize_weights()
        model.decoder.initialize_weights(16)
    return model


def mae_params(state):
    projection = state["vit.embeddings.patch_embeddings.projection.weight"]
    return {
        "image_encoder": {
            "class_token": state["vit.embeddings.cls_token"].reshape(-1),
            "position_embedding": state["vit.embeddings.position_embeddings"][0],
            "patch_embedding": {
                "kernel": projection.transpose(2, 3, 1, 0).reshape(-1, IMAGE.width),
                "bias": state["vit.embeddings.patch_embeddings.projection.bias"],
            },
            "blocks": blocks(state, "vit.layers", VIT_NAMES, IMAGE.heads),
            "norm": norm(state, "vit.layernorm"),
        },
        "mae_decoder": {
            "embed": linear(state, "decoder.decoder_embed"),
            "mask_token": state["decoder.mask_token"].reshape(-1),
            "blocks": blocks(state, "decoder.decoder_layers", VIT_NAMES, DECODER.decoder_heads),
            "norm": norm(state, "decoder.decoder_norm"),
            "predict": linear(state, "decoder.decoder_pred"),
        },
    }


def rows(size, **fields):
    """What the tasks read of a batch of whole records."""
    ones = np.ones(size, bool)
    return SimpleNamespace(valid=ones, task_mask=np.ones((size, 4), bool), frame_mask=ones[:, None], **fields)


@pytest.mark.parametrize("normalise_pixels", [True, False])
def test_masked_autoencoder_equals_transformers(normalise_pixels):
    theirs = their_mae(normalise_pixels)
    params = mae_params(randomised(theirs))
    ours = Mae(IMAGE, dataclasses.replace(DECODER, normalise_pixels=normalise_pixels), 32)
    rng = np.random.default_rng(0)
    image, noise = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), rng.random((3, 16), dtype=np.float32)
    outputs = quick(lambda p: ours.apply({"params": p}, image, noise, method="reconstruct"))(params)
    pixels = (torch.from_numpy(image).float() / 255 - torch.tensor(IMAGE.mean)) / torch.tensor(IMAGE.std)
    with torch.no_grad():
        expected = theirs(pixels.permute(0, 3, 1, 2), noise=torch.from_numpy(noise))
    np.testing.assert_array_equal(outputs.pretraining.hidden, expected.mask.bool())
    np.testing.assert_allclose(outputs.pretraining.predicted, expected.logits, atol=2e-5)
    value, _ = loss(TASK_TABLE["reconstruct"], outputs, rows(3), CONTEXT)
    np.testing.assert_allclose(value, expected.loss, rtol=1e-5)


def test_fixed_positions_are_those_of_transformers():
    theirs = their_mae(True)
    np.testing.assert_allclose(sincos_2d(24, 4), theirs.vit.embeddings.position_embeddings[0].detach(), atol=1e-6)
    np.testing.assert_allclose(sincos_2d(16, 4), theirs.decoder.decoder_pos_embed[0].detach(), atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(6, 2)


def test_positions_stay_fixed_and_only_visible_patches_are_encoded():
    model = Mae(dataclasses.replace(IMAGE, layers=1), dataclasses.replace(DECODER, decoder_layers=1), 32)
    image = jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8))
    face = (image, jnp.ones((2, 1), bool), jnp.zeros((2, 4, 4), jnp.int32), jnp.zeros((2, 4, 4), jnp.int32))
    params = quick(lambda key: model.init(key, *face)["params"])(jax.random.key(0))
    np.testing.assert_array_equal(params["image_encoder"]["position_embedding"], sincos_2d(24, 4))

    def objective(p, key):
        outputs = model.apply({"params": p}, *face, train=True, rngs={"dropout": key})
        return loss(TASK_TABLE["reconstruct"], outputs, rows(2), CONTEXT)[0], outputs.pretraining.hidden

    learn = quick(jax.grad(objective, has_aux=True))
    gradient, hidden = learn(params, jax.random.key(1))
    assert not np.any(gradient["image_encoder"]["position_embedding"])
    assert np.any(gradient["image_encoder"]["patch_embedding"]["kernel"])
    assert hidden.sum(axis=1).tolist() == [12, 12] and not np.array_equal(hidden[0], hidden[1])
    again = learn(params, jax.random.key(2))[1]
    assert not np.array_equal(hidden, again), "every step masks anew"
    look = quick(lambda p, images: model.apply({"params": p}, images, *face[1:]).pretraining.hidden)
    np.testing.assert_array_equal(look(params, image), look(params, 255 - image), "validation masks alike every time")


def test_encoding_every_patch_in_any_order_is_encoding_the_image():
    encoder = ImageEncoder(dataclasses.replace(IMAGE, layers=1), 32)
    image = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    params = quick(encoder.init)(jax.random.key(0), image)
    kept, _ = visible_patches(jnp.asarray(np.random.default_rng(3).random((2, 16))), 0.0)
    whole, shuffled = quick(lambda p: (encoder.apply(p, image), encoder.apply(p, image, kept)))(params)
    np.testing.assert_allclose(shuffled[:, 0], whole[:, 0], atol=1e-5)
    expected = jnp.take_along_axis(whole[:, 1:], kept[..., None], axis=1)
    np.testing.assert_allclose(shuffled[:, 1:], expected, atol=1e-5)


def test_broken_and_missing_images_do_not_count():
    rng = np.random.default_rng(0)
    part = SimpleNamespace(
        predicted=jnp.asarray(rng.random((3, 4, 5))), wanted=jnp.zeros((3, 4, 5)), hidden=jnp.asarray([[True] * 4] * 3)
    )
    outputs = Outputs(None, None, part)
    batch = rows(3)
    batch.valid, batch.frame_mask = np.array([True, False, True]), np.array([[True], [True], [False]])
    value, state = loss(TASK_TABLE["reconstruct"], outputs, batch, CONTEXT)
    np.testing.assert_allclose(value, np.square(part.predicted[0]).mean(), rtol=1e-6)
    assert state["loss"][1] == 1


def test_masked_language_model_equals_transformers():
    theirs = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=TEXT.width,
            num_hidden_layers=TEXT.layers,
            num_attention_heads=TEXT.heads,
            intermediate_size=TEXT.mlp,
            max_position_embeddings=TEXT.positions,
        )
    )
    state = randomised(theirs)
    table = np.zeros((56, TEXT.width), np.float32)  # six rows that only pad
    table[:50] = state["bert.embeddings.word_embeddings.weight"]
    bias = np.zeros(56, np.float32)
    bias[:50] = state["cls.predictions.bias"]
    params = {
        "text_encoder": {
            "word_embedding": table,
            "position_embedding": state["bert.embeddings.position_embeddings.weight"],
            "token_type_embedding": state["bert.embeddings.token_type_embeddings.weight"],
            "embedding_norm": norm(state, "bert.embeddings.LayerNorm"),
            "blocks": blocks(state, "bert.encoder.layer", BERT_NAMES, TEXT.heads),
        },
        "mlm_head": {
            "dense": linear(state, "cls.predictions.transform.dense"),
            "norm": norm(state, "cls.predictions.transform.LayerNorm"),
            "bias": bias,
        },
    }
    rng = np.random.default_rng(0)
    shown, wanted = rng.integers(1, 50, (3, 4, 20), dtype=np.int32), np.zeros((3, 4, 20), np.int32)
    shown[0, :, 12:] = 0
    for row, places in enumerate(([1, 5], [0, 3, 19], [7])):
        wanted[row, 0, places] = rng.integers(1, 50, len(places))
    ours = MaskedLanguage(TEXT, vocab_size=56, n_tokens=50)
    outputs = quick(lambda p: ours.apply({"params": p}, None, None, shown, wanted))(params)
    labels = torch.from_numpy(np.where(wanted[:, 0] == 0, -100, wanted[:, 0])).long()
    with torch.no_grad():
        tokens = torch.from_numpy(shown[:, 0]).long()
        expected = theirs(tokens, attention_mask=(tokens != 0).long(), labels=labels)
    batch = rows(3, target=wanted)
    assert TASK_TABLE["mask_language"].count(batch) == 6
    value, metric = loss(TASK_TABLE["mask_language"], outputs, batch, CONTEXT)
    np.testing.assert_allclose(value, expected.loss, rtol=1e-5)
    assert metric["loss"][1] == 6
    theirs_there = expected.logits.numpy()[1, [0, 3, 19]]
    np.testing.assert_allclose(outputs.pretraining.logits[1, :3, :50], theirs_there, atol=2e-5)
    assert (outputs.pretraining.logits[..., 50:] < -1e8).all()
