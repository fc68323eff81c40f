"""The same network in PyTorch, as its users would tune it: a peer for `vlm-jax bench train` and `decode`.

    --peer benchmarks/peers/torch_vlm.py:eager      --peer benchmarks/peers/torch_vlm.py:compile

The network is that of examples/pytorch_reader.py with what makes it fast: `scaled_dot_product_attention`, each prompt
encoded once, keys and values of the image projected once for all tasks, fused AdamW; decoding by a cache of keys and
values. Parameters are ours, copied; dropout sits where ours does. bfloat16 is autocast's. CPU and CUDA.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_jax.bench.decode import allowed, task_ids
from vlm_jax.bench.peers import Peer
from vlm_jax.config.load import to_dict
from vlm_jax.models.build import resolve_dtype
from vlm_jax.parallel.runtime import cores
from vlm_jax.training.optim import NO_DECAY
from vlm_jax.weights.export import flatten

_READER = Path(__file__).resolve().parents[2] / "examples" / "pytorch_reader.py"
_spec = importlib.util.spec_from_file_location("pytorch_reader", _READER)
reader: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = reader
_spec.loader.exec_module(reader)


# --- The network, tuned ----------------------------------------------------------------------------------------------


def attend(self: Any, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
    """In place of `reader.Attention.forward`; where the mask keeps everything it is left out."""
    return mix(self, x, *keys_values(self, memory), None if getattr(self, "unmasked", False) else mask)


def keys_values(self: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
    return self.split(self.key(memory)), self.split(self.value(memory))


def mix(self: Any, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """With one leading axis, for with more of them PyTorch has no fast kernel, and the compiler fails."""
    query = self.split(self.query(x))
    if mask is not None and mask.ndim > 4:
        mask = mask.flatten(0, -4)
    flat = [t.flatten(0, -4) for t in (query, key, value)]
    out = functional.scaled_dot_product_attention(*flat, attn_mask=mask)
    return self.out(out.transpose(-3, -2).flatten(-2).unflatten(0, x.shape[:-2]))


class Network(reader.Vlm):
    """The reader's, with the methods that matter for speed."""

    def forward(self, image: Tensor, prompt: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As the reader's, but for the padded vocabulary: its rows are cut off and not masked."""
        logits, memory, mask = self.encode(image, prompt)
        tokens = target[:, [reader.TASKS.index(task) for task in self.text_tasks], :-1]
        x = functional.embedding(tokens, self.text_encoder.word_embedding)
        x = functional.dropout(x + self.decoder.position_embedding[: x.shape[2]], self.rate, self.training)
        t = x.shape[2]
        causal = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        for layer, pair in zip(layers(self.decoder), memory, strict=True):
            y = layer.norm_self(x)
            x = x + layer.self_attention(y, y, causal)
            x = self.rest(layer, x, pair, mask)
        return logits, self.words(self.decoder.norm(x))

    def encode(self, image: Tensor, prompt: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
        """Landmark logits, and for each decoder layer keys and values [B, R, N, S + P, H] under one mask."""
        there = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        frames, seen = self._image_tokens(image, there)
        unique = prompt[:, [0, 2, 3]]  # landmarks and describe ask the same
        encoded = self.text_encoder(unique.flatten(0, 1)).unflatten(0, unique.shape[:2])
        kept = unique != 0
        logits = self._landmark_logits(frames, seen, encoded[:, 0], kept[:, 0])
        image_tokens = frames.flatten(1, 2)
        prompts = self.text_to_image(encoded.flatten(1, 2), image_tokens, seen.flatten(1, 2)).unflatten(
            1, encoded.shape[1:3]
        )
        if hasattr(self, "image_projection"):
            image_tokens = self.image_projection(image_tokens)
        memory = []
        for layer in layers(self.decoder):
            of_prompt = keys_values(layer.cross_attention, prompts)
            of_image = keys_values(layer.cross_attention, image_tokens[:, None])
            r = prompts.shape[1]
            both = zip(of_prompt, of_image, strict=True)
            memory.append(tuple(torch.cat([p, i.expand(-1, r, -1, -1, -1)], -2) for p, i in both))
        seen = seen.flatten(1, 2)[:, None].expand(-1, prompts.shape[1], -1)
        return logits, memory, torch.cat([kept, seen], -1)[:, :, None, None, :]

    def rest(self, layer: Any, x: Tensor, pair: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        x = x + layer.cross_attention_out(mix(layer.cross_attention, layer.norm_cross(x), *pair, mask))
        return x + layer.mlp(layer.norm_mlp(x))

    def words(self, hidden: Tensor) -> Tensor:
        """[..., D] -> logits of the real vocabulary."""
        n = self.n_tokens
        return functional.linear(hidden, self.text_encoder.word_embedding[:n], self.token_bias[:n])

    @torch.no_grad()
    def decode(self, image: Tensor, prompt: Tensor, first: Tensor, forbidden: Tensor, length: int) -> Tensor:
        """int[B, R, T - 1]: the likeliest token each time, by a cache that is written in place."""
        _, memory, mask = self.encode(image, prompt)
        b, r, blocks = len(image), len(first), layers(self.decoder)
        n, h = blocks[0].self_attention.heads, blocks[0].norm_self.weight.shape[0] // blocks[0].self_attention.heads
        cache = [torch.zeros(2, b, r, n, length, h, dtype=memory[0][0].dtype, device=image.device) for _ in blocks]
        token, out = first.expand(b, r), []
        for t in range(length - 1):
            x = functional.embedding(token, self.text_encoder.word_embedding) + self.decoder.position_embedding[t]
            x = x[:, :, None]
            for layer, pair, kept in zip(blocks, memory, cache, strict=True):
                y = layer.norm_self(x)
                kept[0][:, :, :, t : t + 1], kept[1][:, :, :, t : t + 1] = keys_values(layer.self_attention, y)
                x = x + mix(layer.self_attention, y, kept[0][..., : t + 1, :], kept[1][..., : t + 1, :], None)
                x = self.rest(layer, x, pair, mask)
            scores = self.words(self.decoder.norm(x))[:, :, 0].masked_fill(forbidden, -torch.inf)
            token = scores.argmax(-1)
            out.append(token)
        return torch.stack(out, -1)


def layers(decoder: Any) -> list[Any]:
    return [decoder.get_submodule(f"layer_{i}") for i in range(decoder.n_layers)]


def add_dropout(network: Any, rate: float) -> None:
    """Where vlm_jax has it: behind every sublayer and every sum of embeddings, in training only."""
    network.rate = rate
    sublayers = (reader.Block, reader.CrossSublayer, reader.DecoderLayer)
    for module in network.modules():
        if isinstance(module, sublayers):
            for name, child in module.named_children():
                if name in ("attention", "self_attention", "mlp"):
                    child.register_forward_hook(lambda m, _, out: functional.dropout(out, rate, network.training))
        if isinstance(module, reader.DecoderLayer):
            module.cross_attention_out = nn.Dropout(rate)
    network.text_encoder.embedding_norm.register_forward_hook(
        lambda m, _, out: functional.dropout(out, rate, network.training)
    )


# --- The jobs --------------------------------------------------------------------------------------------------------


def make_peer(kind: str, variant: str, trial: Any) -> Peer:
    """`variant`: eager or compile. `kind`: train, forward or decode."""
    if variant not in ("eager", "compile"):
        raise ValueError(f"variant {variant!r}: expected eager or compile")
    torch.set_num_threads(cores())
    reader.Attention.forward = attend
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = _network(trial).to(device)
    inputs = [torch.from_numpy(np.asarray(x)).to(device) for x in (trial.batch.image, trial.batch.prompt.astype("i8"))]
    low = resolve_dtype(trial.config.model.dtype).name == "bfloat16"
    precision = torch.autocast(device, torch.bfloat16) if low else contextlib.nullcontext()
    compiled = torch.compile if variant == "compile" else (lambda f, **_: f)
    make = {"train": _train, "forward": _forward, "decode": _decode}[kind]
    call, outputs = make(trial, network, inputs, compiled, precision)
    return Peer(f"PyTorch {torch.__version__.partition('+')[0]}, {variant}", call, outputs)


def _network(trial: Any) -> Any:
    config = to_dict(trial.config)
    labels = [str(i) for i in range(trial.n_landmarks)]
    network = Network({"config": config, "labels": labels, "thresholds": {}, "n_tokens": trial.n_tokens}, Path())
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in flatten(trial.state.params).items()}
    network.load_state_dict(reader.to_torch(arrays))
    add_dropout(network, trial.config.model.dropout)
    for module in (*network.image_encoder.modules(), network.text_to_image.attention):
        module.unmasked = True  # every frame is there
    return network.eval()


def _wait(result: Tensor) -> Tensor:
    if result.is_cuda:
        torch.cuda.synchronize()
    return result


def _outputs(network: Any, inputs: list[Tensor], target: Tensor, precision: Any) -> np.ndarray:
    with torch.no_grad(), precision:
        network.eval()
        return network(*inputs, target)[0].float().cpu().numpy()


def _forward(trial: Any, network: Any, inputs: list[Tensor], compiled: Any, precision: Any) -> Any:
    target = torch.from_numpy(trial.batch.target.astype("i8")).to(inputs[0].device)
    run = compiled(network)

    def call() -> None:
        with torch.no_grad(), precision:
            _wait(run(*inputs, target)[0])

    return call, lambda: _outputs(network, inputs, target, precision)


def _train(trial: Any, network: Any, inputs: list[Tensor], compiled: Any, precision: Any) -> Any:
    """Losses of all tasks, gradients, clipping, fused AdamW."""
    config, device = trial.config, inputs[0].device
    target = torch.from_numpy(trial.batch.target.astype("i8")).to(device)
    labels = torch.from_numpy(trial.batch.landmarks.astype("f4")).to(device)
    wanted = [target[:, reader.TASKS.index(task), 1:].flatten() for task in network.text_tasks]
    named = dict(network.named_parameters())
    spared = {
        name for name, p in named.items() if p.ndim < 2 or any(w in name for w in NO_DECAY.strip("()").split("|"))
    }
    groups = [
        {"params": [p for name, p in named.items() if (name in spared) == is_spared], "weight_decay": decay}
        for is_spared, decay in ((False, config.optim.weight_decay), (True, 0.0))
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.optim.lr, betas=(config.optim.b1, config.optim.b2), fused=True)

    def loss() -> Tensor:
        found, words = network(*inputs, target)
        total = functional.binary_cross_entropy_with_logits(found.float(), labels)
        for row, truth in enumerate(wanted):
            scores = words[:, row].flatten(0, 1).float()
            smoothing = config.loss.label_smoothing
            total = total + functional.cross_entropy(scores, truth, ignore_index=0, label_smoothing=smoothing)
        return total

    run = compiled(loss)

    def call() -> None:
        network.train()
        with precision:
            total = run()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        _wait(total)

    return call, lambda: _outputs(network, inputs, target, precision)


def _decode(trial: Any, network: Any, inputs: list[Tensor], compiled: Any, precision: Any) -> Any:
    """Only the encoders and the layers are compiled: the loop over tokens is Python's."""
    device = inputs[0].device
    first = torch.tensor([task_ids(trial)[task] for task in network.text_tasks], device=device)
    forbidden = torch.from_numpy(~allowed(trial)).to(device)
    network.encode = compiled(network.encode)
    network.rest = compiled(network.rest, dynamic=False)

    def call() -> Tensor:
        with torch.no_grad(), precision:
            return _wait(network.decode(*inputs, first, forbidden, trial.config.data.target_length))

    return call, lambda: call().cpu().numpy()
