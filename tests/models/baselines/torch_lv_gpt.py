"""An oracle, written for the tests: LV-GPT in torch from transformers' parts, under its authors' keys."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn


def _resnet() -> Any:
    path = Path(__file__).parents[2] / "weights" / "torch_resnet.py"
    spec = importlib.util.spec_from_file_location("torch_resnet", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResNet


ResNet = _resnet()


def gpt_config(width: int, layers: int, heads: int, vocabulary: int) -> transformers.GPT2Config:
    return transformers.GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, n_positions=1024)


class TorchLvGpt(nn.Module):
    """`vision` is a module with `tokens(image) -> [B, P, D]`; mode is none, zero or ordered."""

    def __init__(self, vision: nn.Module, gpt: transformers.GPT2Config, n_classes: int, hidden: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.img_feature_extractor = vision
        if isinstance(vision, ResNet):
            self.visual_embedder = nn.Linear(vision.fc.in_features, gpt.n_embd)
            vision.fc = nn.Identity()
        self.question_embedder = nn.Embedding(gpt.vocab_size, gpt.n_embd)
        self.VCAdecoder = transformers.GPT2Model(gpt)
        self.intermediate_layer = nn.Linear(gpt.n_embd, hidden)
        self.LayerNorm = nn.BatchNorm1d(hidden)
        self.classifier = nn.Linear(hidden, n_classes)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        if isinstance(self.img_feature_extractor, ResNet):
            maps = self.img_feature_extractor.features(image).flatten(2).transpose(1, 2)
            seen = self.visual_embedder(maps)
        else:
            seen = self.img_feature_extractor(pixel_values=image).last_hidden_state
        words = self.question_embedder(tokens)
        (b, s, _), p = words.shape, seen.shape[1]
        extra = {}
        if self.mode != "none":
            places = torch.zeros(p, dtype=torch.long) if self.mode == "zero" else torch.arange(p)
            extra["position_ids"] = torch.cat([torch.arange(s), places]).repeat(b, 1)
            extra["token_type_ids"] = torch.cat([torch.zeros(s), torch.ones(p)]).long().repeat(b, 1)
        keep = torch.cat([mask, torch.ones(b, p, dtype=mask.dtype)], 1)
        out = self.VCAdecoder(inputs_embeds=torch.cat([words, seen], 1), attention_mask=keep, **extra)
        return self.classifier(self.LayerNorm(self.intermediate_layer(out.last_hidden_state.mean(1))))
