"""SurgicalGPT's classifier against torch: an oracle of our own, and, where there is a clone, the public code."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from vlm_jax.config.schema import BackboneConfig, GptConfig, ImageEncoderConfig, ModelConfig
from vlm_jax.models.baselines.lv_gpt import LvGptClassifier
from vlm_jax.parallel.partition import param_name
from vlm_jax.weights.importer import import_weights

TOLERANCE = 1e-4
CLONE = "SURGICAL_GPT_CLONE"
VISIONS, MODES = ("resnet18", "swin_t", "vit"), ("none", "zero", "ordered")
HALF, MEAN, STD = (0.5,) * 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = load(Path(__file__).parent / "torch_lv_gpt.py", "torch_lv_gpt")
timm_models = load(Path(__file__).parents[2] / "weights" / "timm_models.py", "timm_models").timm_models


def model_config(vision: str, mode: str, small: bool = True, tokens: str = "patches") -> ModelConfig:
    """Small: width 48 throughout, one or two layers; else the published sizes."""
    gpt = GptConfig(width=48, layers=2, heads=4, head_width=24) if small else GptConfig()
    gpt = GptConfig(**{**vars(gpt), "vision": vision, "vision_positions": mode, "vision_tokens": tokens})
    image = {"epsilon": 1e-12, "mean": HALF, "std": HALF}
    if small:
        vit = ImageEncoderConfig(width=48, layers=1, heads=4, mlp=64, patch=8, **image)
        factor = 0.0625 if vision == "swin_t" else 0.125
        backbone = BackboneConfig(width_factor=factor, window=2 if vision == "swin_t" else 7)
    else:
        vit = ImageEncoderConfig(width=768, layers=12, heads=12, mlp=3072, **image)
        backbone = BackboneConfig()
    return ModelConfig(image_encoder=vit, backbone=backbone, gpt=gpt)


def torch_vision(vision: str, size: int) -> torch.nn.Module:
    """The small tokenisers of `model_config`."""
    if vision == "vit":
        sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
        return transformers.ViTModel(transformers.ViTConfig(**sizes, patch_size=8, image_size=size))
    if vision == "swin_t":
        sizes = {"embed_dim": 6, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 2}
        return transformers.SwinModel(transformers.SwinConfig(**sizes, image_size=size))
    return oracle.ResNet((2, 2, 2, 2), 1, width=8)


def public_names(state: dict[str, Any]) -> dict[str, Any]:
    """A ResNet cut out of torchvision's by `Sequential` has numbers for names."""
    numbers = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    named = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        named[f"{numbers.get(head, head)}.{rest}"] = value
    return named


def saved(model: Any) -> dict[str, np.ndarray]:
    """A transformers model under the names of its files, which differ from those in memory."""
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        return load_file(Path(directory) / "model.safetensors")


def convert(model: torch.nn.Module, config: ModelConfig, gpt2_tree: Any) -> dict[str, Any]:
    """The authors' state -> parameters of LvGptClassifier, the vision tokeniser by the importer."""
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}

    def below(name: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}

    def linear(name: str) -> dict[str, np.ndarray]:
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    vision, gpt = below("img_feature_extractor"), config.gpt
    norm = below("LayerNorm")
    params = {
        "question_embedding": state["question_embedder.weight"],
        "gpt": gpt2_tree(below("VCAdecoder"), gpt),
        "classifier_head": {
            "hidden": linear("intermediate_layer"),
            "norm_hidden": {"scale": norm["weight"], "bias": norm["bias"]}
            | {"running_mean": norm["running_mean"], "running_variance": norm["running_var"]},
            "linear": linear("classifier"),
        },
    }
    if gpt.vision == "vit":
        params |= import_weights("hf_vit", vision, heads=config.image_encoder.heads).params
        params["unused_pooler_kernel"] = vision["pooler.dense.weight"].T
        params["unused_pooler_bias"] = vision["pooler.dense.bias"]
    elif gpt.vision == "swin_t":
        params |= import_weights("hf_swin", saved(model.img_feature_extractor)).params
    else:
        params |= import_weights("torchvision_resnet", public_names(vision)).params
        params["vision_projection"] = linear("visual_embedder")
    return params


def question(vocabulary: int, batch: int = 3, length: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    tokens, mask = rng.integers(0, vocabulary, (batch, length)), np.ones((batch, length), bool)
    tokens[0, 4:], mask[0, 4:] = vocabulary - 1, False  # pad = [EOS]
    return tokens, mask


def images(config: ModelConfig, size: int, batch: int = 3) -> tuple[np.ndarray, torch.Tensor]:
    image = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    mean, std = (HALF, HALF) if config.gpt.vision == "vit" else (MEAN, STD)
    normal = (image / np.float32(255) - np.float32(mean)) / np.float32(std)
    return image, torch.from_numpy(normal.astype(np.float32).transpose(0, 3, 1, 2).copy())


def ours(config: ModelConfig, params: Any, size: int, vocabulary: int, n: int, *inputs: Any) -> np.ndarray:
    model = LvGptClassifier(config=config, image_size=size, vocab_size=vocabulary, n_classes=n)
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs)["params"])
    assert jax.tree.map(lambda x: x.shape, expected) == jax.tree.map(lambda x: tuple(x.shape), params)
    return np.asarray(jax.jit(model.apply, compiler_options=QUICK)({"params": params}, *inputs))


QUICK_CASES = (("vit", "none"), ("vit", "ordered"), ("swin_t", "zero"))
"""Every mode and both kinds of tokeniser; the others are slow, by compilation."""


@pytest.mark.parametrize(
    "vision, mode",
    [pytest.param(v, m, marks=[pytest.mark.slow] * ((v, m) not in QUICK_CASES)) for v in VISIONS for m in MODES],
)
def test_logits_equal_the_oracle(vision, mode, randomised, gpt2_tree, record_property):
    config, vocabulary, size = model_config(vision, mode), 40, 64
    gpt = oracle.gpt_config(48, 2, 4, vocabulary)
    model = randomised(oracle.TorchLvGpt(torch_vision(vision, size), gpt, 5, 24, mode))
    tokens, mask = question(vocabulary)
    image, normal = images(config, size)
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens), torch.from_numpy(mask).long(), normal).numpy()
    mine = ours(config, convert(model, config, gpt2_tree), size, vocabulary, 5, tokens, mask, image)
    difference = float(np.abs(mine - theirs).max())
    record_property("difference", difference)
    assert np.ptp(theirs) > 1e-2
    assert difference < TOLERANCE


@pytest.mark.parametrize("vision, millions", [("vit", 249.8), ("swin_t", 191.0), ("resnet18", 175.0)])
def test_published_sizes(vision, millions):
    model = LvGptClassifier(config=model_config(vision, "zero", small=False), image_size=224, vocab_size=50257)
    inputs = jnp.zeros((1, 25), jnp.int32), jnp.ones((1, 25), bool), jnp.zeros((1, 224, 224, 3), jnp.uint8)
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs)["params"])
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    counted = sum(math.prod(leaf.shape) for path, leaf in flat if "running_" not in param_name(path))
    assert round(counted / 1e6, 1) == millions


# --- The public code --------------------------------------------------------------------------------------------------


class _Random:
    """Stands in for a published model's class: random weights of the published size in place of a download."""

    def __init__(self, model: Any, config: Any) -> None:
        self.model, self.config = model, config

    def from_pretrained(self, name: str) -> Any:
        del name
        return self.model(self.config)


@pytest.fixture(scope="module")
def public():
    """The public module, run from a clone: with timm's ResNet-18, which has the children of torchvision's in the same
    order, and random weights of the published sizes in place of downloads."""
    if CLONE not in os.environ:
        pytest.skip(f"{CLONE} names no clone of github.com/lalithjets/SurgicalGPT")
    models = types.ModuleType("torchvision.models")
    models.resnet18 = lambda pretrained: timm_models().create_model("resnet18")
    torchvision = types.ModuleType("torchvision")
    torchvision.models = models
    before = {n: sys.modules.get(n) for n in ("torchvision", "torchvision.models")}
    sys.modules.update({"torchvision": torchvision, "torchvision.models": models})
    try:
        module = load(Path(os.environ[CLONE]) / "models" / "EFGPT2Classification.py", "public_surgical_gpt")
    finally:
        for name, value in before.items():
            sys.modules.pop(name) if value is None else sys.modules.update({name: value})
    module.GPT2Model = _Random(transformers.GPT2Model, transformers.GPT2Config())
    module.ViTModel = _Random(transformers.ViTModel, transformers.ViTConfig())
    swin = transformers.SwinConfig()  # of microsoft/swin-tiny-patch4-window7-224
    module.SwinModel = _Random(transformers.SwinModel, swin)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("vision, version", [("resnet18", "v3"), ("resnet18", "v1"), ("swin_t", "v1"), ("vit", "v1")])
def test_logits_equal_the_public_code_at_the_published_sizes(vision, version, public, gpt2_tree, record_property):
    names = {"resnet18": "RS18", "swin_t": "Swin", "vit": "ViT"}
    torch.manual_seed(0)
    model = getattr(public, f"EFVLEGPT2{names[vision]}Classification")(18, version, None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # biases, norms and running statistics away from their starts
        for name, value in model.state_dict(keep_vars=True).items():
            if value.is_floating_point() and value.ndim == 1:
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if name.endswith(("weight", "running_var")) else 0.2 * (noise - 0.5))
    model.eval()
    tokens, mask = question(50257, 2, 25)
    for mode, theirs_mode in zip(MODES, (None, "zeroes", "pos"), strict=True):
        model.vis_pos_emb = theirs_mode
        config = model_config(vision, mode, small=False, tokens="pooled" if version == "v1" else "patches")
        image, normal = images(config, 224, 2)
        words = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask).float()}
        with torch.no_grad():
            theirs = model(words, normal if vision == "resnet18" else {"pixel_values": normal}).numpy()
        mine = ours(config, convert(model, config, gpt2_tree), 224, 50257, 18, tokens, mask, image)
        difference = float(np.abs(mine - theirs).max())
        record_property(f"difference {mode}", difference)
        print(vision, version, mode, difference, float(np.abs(theirs).max()))
        assert difference < TOLERANCE
