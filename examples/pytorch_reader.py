"""The vision-language model of this project in PyTorch, from an export: one file to copy into a project of yours.

Needs torch, safetensors and tokenizers, and nothing of vlm_jax. `vlm-jax weights export --checkpoint runs/tiny_vit
--out exports/tiny_vit` writes an export; then

    from pytorch_reader import load

    model = load("exports/tiny_vit")                   # torch.nn.Module in eval mode, float32
    image = torch.from_numpy(array)[None, None]        # uint8[B, F, H, W, 3], RGB, H = W = model.image_size
    prompt = model.prompts(previous="right view of nasal vestibule")   # int[1, 4, S]
    landmark_logits, token_logits = model(image, prompt, target)   # target: int[B, 4, T], task token first
    model.labels, model.thresholds                     # names of the landmark columns; {name: threshold or None}
    model.generate(image, prompt)                      # {task: texts}, greedy

Read are: fusion cross_attention, concat, pooled and separate, no_image, no_text, any subset of tasks, scanned layers.
Logits equal those of vlm_jax within 1e-4 in float32 (tests/weights/test_pytorch_reader.py). What sees through a ResNet
(tiny, tiny_real), several frames, landmark tokens or places, and the other systems of the project (baselines) are not
in this file: they are refused by name.

Shapes: B batch, F frames, K = 4 prompts (landmarks, describe, anticipate, report), R text tasks, S prompt length,
T target length, P image tokens, D width, V vocabulary, C landmarks. Masks: True = keep. Token 0 is padding.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

TASKS = ("landmarks", "describe", "anticipate", "report")
PROMPT_ROWS = (0, 0, 2, 3)  # landmarks and describe read the same prompt, the description of the previous activity
VIT_EPSILON, BERT_EPSILON = 1e-6, 1e-12
NEVER, MASKED_LOGIT = -1e30, -1e9


def load(folder: str | Path) -> Vlm:
    """The model of an export, ready to run on the CPU; `.to("cuda")` moves it.

    Raises:
      ValueError: no export, or of another system than `vlm`, or with another image encoder.
      RuntimeError: parameters are missing, left over, or of another shape (torch names them).
    """
    folder = Path(folder)
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if about.get("format") != "vlm_jax.export/1":
        raise ValueError(f"{folder} is no export of vlm-jax: make one with `vlm-jax weights export`")
    if about["system"] != "vlm":
        raise ValueError(f"{folder} is of system {about['system']}: this file holds the network of system vlm")
    stem = about["config"]["model"]["image_encoder"].get("stem", "patch")
    if stem != "patch":
        raise ValueError(f"{folder} sees through a {stem}: this file holds the plain vision transformer (stem=patch)")
    parts = about["config"]["model"]
    if about["config"]["data"].get("frames", 1) > 1 or parts.get("condition_on_landmarks") or parts.get("region_width"):
        raise ValueError(f"{folder} has several frames, landmark tokens or places: this file holds none of them")
    if about.get("calibration"):
        raise ValueError(f"{folder} calibrates its scores, which this file can't: train with eval.calibration=none")
    model = Vlm(about, folder / "tokenizer.json")
    model.load_state_dict(to_torch(load_file(folder / "model.safetensors")), strict=True)
    return model.eval()


def to_torch(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of the export -> those of the modules below."""
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if "/layers/" in name:  # scanned layers have one leading axis
            for i, row in enumerate(array):
                found.update([_convert(name.replace("/layers/", f"/layer_{i}/"), row)])
        else:
            found.update([_convert(name, array)])
    return found


def _convert(name: str, array: Tensor) -> tuple[str, Tensor]:
    *path, last = name.split("/")
    if last == "kernel":  # [in..., out...] -> [out, in]; heads are the outer part of a split axis
        n_inputs = array.shape[0] if not re.search(r"attention/out/", name) else array.shape[0] * array.shape[1]
        array = array.reshape(n_inputs, -1).T
    elif last == "bias" and array.ndim == 2:
        array = array.reshape(-1)
    last = {"kernel": "weight", "scale": "weight"}.get(last, last)
    return ".".join([*path, last]), array.contiguous()


# --- Parts ------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention; a query with nothing to attend to gets zeros."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width or width, width)
        self.value = nn.Linear(memory_width or width, width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """[..., L, D] -> [..., N, L, D / N]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x [..., Q, D], memory [..., L, M], mask bool broadcastable to [..., N, Q, L] -> [..., Q, D]."""
        query, key, value = self.split(self.query(x)), self.split(self.key(memory)), self.split(self.value(memory))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.masked_fill(~mask, NEVER).softmax(-1)
        mixed = (weights @ value).masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return self.out(mixed.transpose(-3, -2).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x)))


class Block(nn.Module):
    """Self-attention and MLP: pre-norm (ViT) or post-norm (BERT)."""

    def __init__(self, config: dict[str, Any], pre_norm: bool, epsilon: float) -> None:
        super().__init__()
        width = config["width"]
        self.pre_norm = pre_norm
        self.attention, self.mlp = Attention(width, config["heads"]), Mlp(width, config["mlp"])
        self.norm_1, self.norm_2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pre_norm:
            y = self.norm_1(x)
            x = x + self.attention(y, y, mask)
            return x + self.mlp(self.norm_2(x))
        x = self.norm_1(x + self.attention(x, x, mask))
        return self.norm_2(x + self.mlp(x))


def stack(config: dict[str, Any], pre_norm: bool, epsilon: float) -> nn.ModuleDict:
    return nn.ModuleDict({f"layer_{i}": Block(config, pre_norm, epsilon) for i in range(config["layers"])})


class ImageEncoder(nn.Module):
    """ViT with class token and final norm."""

    def __init__(self, config: dict[str, Any], image_size: int) -> None:
        super().__init__()
        self.patch, width = config["patch"], config["width"]
        self.register_buffer("mean", torch.tensor(config["mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]), persistent=False)
        self.patch_embedding = nn.Linear(self.patch**2 * 3, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.position_embedding = nn.Parameter(torch.zeros(1 + (image_size // self.patch) ** 2, width))
        self.blocks = stack(config, True, config["epsilon"])
        self.norm = nn.LayerNorm(width, config["epsilon"])

    def forward(self, image: Tensor) -> Tensor:
        """uint8[B, H, W, 3] -> [B, P, D]."""
        x = (image.float() / 255.0 - self.mean) / self.std
        x = x.unflatten(2, (-1, self.patch)).unflatten(1, (-1, self.patch)).transpose(2, 3)  # [B, h, w, p, p, 3]
        x = self.patch_embedding(x.flatten(3).flatten(1, 2))
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1) + self.position_embedding
        everything = torch.ones(1, 1, 1, x.shape[1], dtype=torch.bool, device=x.device)
        for block in self.blocks.values():
            x = block(x, everything)
        return self.norm(x)


class TextEncoder(nn.Module):
    """BERT without a pooler; its word embedding is the decoder's, too."""

    def __init__(self, config: dict[str, Any], vocab_size: int) -> None:
        super().__init__()
        width = config["width"]
        self.word_embedding = nn.Parameter(torch.zeros(vocab_size, width))
        self.position_embedding = nn.Parameter(torch.zeros(config["positions"], width))
        if config["token_types"]:
            self.token_type_embedding = nn.Parameter(torch.zeros(config["token_types"], width))
        self.embedding_norm = nn.LayerNorm(width, BERT_EPSILON)
        self.blocks = stack(config, False, BERT_EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """int[B, S] -> [B, S, D]."""
        x = self.word_embedding[tokens] + self.position_embedding[: tokens.shape[1]]
        if hasattr(self, "token_type_embedding"):
            x = x + self.token_type_embedding[0]
        x = self.embedding_norm(x)
        for block in self.blocks.values():
            x = block(x, (tokens != 0)[:, None, None, :])
        return x


class CrossSublayer(nn.Module):
    """x + Attention(norm(x), norm(memory))."""

    def __init__(self, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, VIT_EPSILON)
        self.norm_memory = nn.LayerNorm(memory_width, VIT_EPSILON)
        self.attention = Attention(width, heads, memory_width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x [B, Q, D], memory [B, L, M], mask bool[B, L]."""
        return x + self.attention(self.norm_query(x), self.norm_memory(memory), mask[:, None, None, :])


class DecoderLayer(nn.Module):
    """Causal self-attention, one attention over [own prompt ; image], MLP; pre-norm."""

    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(width, VIT_EPSILON) for _ in range(3))
        self.self_attention = Attention(width, config["heads"])
        self.cross_attention = Attention(width, config["heads"])
        self.mlp = Mlp(width, config["mlp"])

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x [B, R, T, D], memory [B, R, S + P, D], mask bool[B, R, S + P]."""
        t = x.shape[-2]
        causal = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        y = self.norm_self(x)
        x = x + self.self_attention(y, y, causal)
        x = x + self.cross_attention(self.norm_cross(x), memory, mask[:, :, None, None, :])
        return x + self.mlp(self.norm_mlp(x))


class Decoder(nn.Module):
    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        self.position_embedding = nn.Parameter(torch.zeros(config["positions"], width))
        self.n_layers = config["layers"]
        for i in range(self.n_layers):
            self.add_module(f"layer_{i}", DecoderLayer(config, width))
        self.norm = nn.LayerNorm(width, VIT_EPSILON)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        x = x + self.position_embedding[: x.shape[2]]
        for i in range(self.n_layers):
            x = self.get_submodule(f"layer_{i}")(x, memory, mask)
        return self.norm(x)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x [..., L, D] over the L where mask [..., L] is True; zeros where none is."""
    kept = mask[..., None].float()
    return (x * kept).sum(-2) / kept.sum(-2).clamp(min=1.0)


# --- The system -------------------------------------------------------------------------------------------------------


class Vlm(nn.Module):
    """Images and prompts in, landmark logits and token logits out.

    Attributes:
      labels: names of the C landmark columns. thresholds: {name: threshold, or None where none could be chosen}.
      text_tasks: the R tasks of the token logits.
      image_size: pixels, square.
    """

    def __init__(self, about: dict[str, Any], tokenizer: Path) -> None:
        """`about`: the export's config.json. `tokenizer`: its tokenizer.json."""
        super().__init__()
        config, data = about["config"], about["config"]["data"]
        c = self.config = config["model"]
        self.tasks = tuple(task for task in TASKS if task in config["tasks"])
        self.text_tasks = self.tasks[1:] if "landmarks" in self.tasks else self.tasks
        self.labels, self.thresholds = tuple(about["labels"]), dict(about["thresholds"])
        self.n_tokens, self.image_size = about["n_tokens"], data["image_size"]
        self.prompt_length, self.target_length = data["prompt_length"], data["target_length"]
        self.tokenizer_file = tokenizer
        image, text = c["image_encoder"]["width"], c["text_encoder"]["width"]
        vocab_size = max(c["vocab_size"], self.n_tokens)
        self.image_encoder = ImageEncoder(c["image_encoder"], self.image_size)
        self.text_encoder = TextEncoder(c["text_encoder"], vocab_size)
        self.null_image, self.null_text = nn.Parameter(torch.zeros(image)), nn.Parameter(torch.zeros(text))
        crossed = c["fusion"] == "cross_attention"
        if "landmarks" in self.tasks:
            pooled = image if crossed or c["fusion"] == "separate" else image + text
            parts = {"norm": nn.LayerNorm(pooled, VIT_EPSILON), "linear": nn.Linear(pooled, len(self.labels))}
            self.landmark_head = nn.ModuleDict(parts)
            if crossed:
                self.image_to_text = CrossSublayer(image, text, c["fusion_heads"])
        if self.text_tasks:
            if crossed:
                self.text_to_image = CrossSublayer(text, image, c["fusion_heads"])
            if image != text:
                self.image_projection = nn.Linear(image, text)
            self.decoder = Decoder(c["decoder"], text)
            self.token_bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self, image: Tensor, prompt: Tensor, target: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Teacher-forced: target[..., :-1] goes in, the logits of target[..., 1:] come out.

        Args:
          image: uint8[B, F, H, W, 3], RGB. prompt: int[B, 4, S]. target: int[B, 4, T], or None for landmarks alone.
          frame_mask: bool[B, F]; False = no image there; None = all are.

        Returns:
          landmark logits [B, C] and token logits [B, R, T - 1, V], each None where the system lacks it.
        """
        if frame_mask is None:
            frame_mask = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        frames, seen = self._image_tokens(image, frame_mask)
        prompts, kept = self._prompt_tokens(prompt)
        logits = self._landmark_logits(frames, seen, prompts[:, 0], kept[:, 0]) if "landmarks" in self.tasks else None
        if target is None or not self.text_tasks:
            return logits, None
        rows = [TASKS.index(task) for task in self.text_tasks]
        memory, mask = self._memory(frames, seen, prompts[:, rows], kept[:, rows])
        hidden = self.decoder(self.text_encoder.word_embedding[target[:, rows, :-1]], memory, mask)
        scores = hidden @ self.text_encoder.word_embedding.T + self.token_bias
        scores[..., self.n_tokens :] = MASKED_LOGIT  # rows that only pad the vocabulary
        return logits, scores

    def _image_tokens(self, image: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, F, P, D] and bool[B, F, P]; frames that are not there are the null embedding, one of it seen."""
        tokens = self.image_encoder(image.flatten(0, 1)).unflatten(0, image.shape[:2])
        if self.config["no_image"]:
            frame_mask = torch.zeros_like(frame_mask)
        tokens = torch.where(frame_mask[:, :, None, None], tokens, self.null_image)
        seen = frame_mask[:, :, None].repeat(1, 1, tokens.shape[2])
        seen[:, 0, -1] |= ~frame_mask.any(1)
        return tokens, seen

    def _prompt_tokens(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """The prompts that the four tasks read [B, 4, S, D], and bool[B, 4, S]."""
        prompt = prompt[:, list(PROMPT_ROWS)]
        if self.config["no_text"]:
            first = torch.arange(prompt.shape[-1], device=prompt.device) == 0  # one null embedding is seen
            return self.null_text.expand(*prompt.shape, -1), first.expand(prompt.shape)
        return self.text_encoder(prompt.flatten(0, 1)).unflatten(0, prompt.shape[:2]), prompt != 0

    def _landmark_logits(self, frames: Tensor, seen: Tensor, prompt: Tensor, kept: Tensor) -> Tensor:
        """[B, C] from the patch tokens, without class tokens, and the landmarks prompt."""
        image, mask = frames[:, :, 1:].flatten(1, 2), seen[:, :, 1:].flatten(1, 2)
        if self.config["fusion"] == "cross_attention":
            pooled = masked_mean(self.image_to_text(image, prompt, kept), mask)
        elif self.config["fusion"] == "separate":
            pooled = masked_mean(image, mask)
        else:
            pooled = torch.cat([masked_mean(image, mask), masked_mean(prompt, kept)], -1)
        return self.landmark_head["linear"](self.landmark_head["norm"](pooled))

    def _memory(self, frames: Tensor, seen: Tensor, prompts: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder attends to: [B, R, S + P, D] and its mask."""
        image, image_mask = frames.flatten(1, 2), seen.flatten(1, 2)
        if self.config["fusion"] == "cross_attention":
            prompts = self.text_to_image(prompts.flatten(1, 2), image, image_mask).unflatten(1, prompts.shape[1:3])
        elif self.config["fusion"] == "pooled":
            prompts, kept = masked_mean(prompts, kept)[..., None, :], kept.any(-1, keepdim=True)
            image, image_mask = masked_mean(image, image_mask)[..., None, :], image_mask.any(-1, keepdim=True)
        if hasattr(self, "image_projection"):
            image = self.image_projection(image)
        r = prompts.shape[1]
        memory = torch.cat([prompts, image[:, None].expand(-1, r, -1, -1)], 2)
        return memory, torch.cat([kept, image_mask[:, None].expand(-1, r, -1)], 2)

    # --- Text ---------------------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of the export."""
        from tokenizers import Tokenizer, decoders

        found = Tokenizer.from_file(str(self.tokenizer_file))
        found.encode_special_tokens = True  # "[SEP]" typed in a note is text
        found.decoder = decoders.WordPiece()
        return found

    def prompts(self, previous: str = "", current: str = "", keyword: str = "", context: str = "") -> Tensor:
        """int[1, 4, S]: what landmarks and describe (previous), anticipate (current) and report are asked."""
        tokenizer = self.tokenizer()
        first, null, end = (tokenizer.token_to_id(token) for token in ("[CLS]", "[NULL]", "[SEP]"))
        rows = []
        for texts in ([previous], [previous], [current], [keyword, context]):
            parts = [tokenizer.encode(t.lower(), add_special_tokens=False).ids if t else [null] for t in texts]
            while sum(map(len, parts)) > self.prompt_length - 1 - len(parts):
                del max(parts, key=len)[0]  # what is too long loses its beginning
            ids = [first, *(i for part in parts for i in (*part, end))]
            rows.append(ids + [0] * (self.prompt_length - len(ids)))
        return torch.tensor([rows])

    @torch.no_grad()
    def generate(self, image: Tensor, prompt: Tensor) -> dict[str, list[str]]:
        """{text task: B texts}, the likeliest token each time; vlm_jax also rules out tokens that no target holds."""
        tokenizer = self.tokenizer()
        first = [[tokenizer.token_to_id(f"[{task.upper()}]")] for task in TASKS]
        target = torch.tensor([first] * len(image), device=image.device)
        rows = [TASKS.index(task) for task in self.text_tasks]
        for _ in range(self.target_length - 1 if rows else 0):
            following = torch.zeros_like(target[:, :, :1])
            scores = self(image, prompt, torch.cat([target, following], -1))[1]
            following[:, rows, 0] = scores[:, :, -1].argmax(-1)
            target = torch.cat([target, following], -1)
        end = tokenizer.token_to_id("[EOS]")
        words = {TASKS[row]: [ids[1:] for ids in target[:, row].tolist()] for row in rows}
        return {k: [tokenizer.decode(ids[: (ids + [end]).index(end)]) for ids in v] for k, v in words.items()}
