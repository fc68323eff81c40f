"""Hugging Face `generate`: a peer for `vlm-jax bench decode`.

    --peer benchmarks/peers/hugging_face.py:greedy      --peer benchmarks/peers/hugging_face.py:beam4

A VisionEncoderDecoderModel of the same widths and depths, with random weights: ViT, and a decoder of as many layers
that attends to the image alone. It encodes each image once and writes as many texts of the same length as ours. It
reads no prompts and has no fusion, so that it has less to do.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from transformers import (
    BertGenerationConfig,
    BertGenerationDecoder,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)
from transformers.modeling_outputs import BaseModelOutput

from vlm_jax.bench.decode import END
from vlm_jax.bench.peers import Peer
from vlm_jax.models.build import resolve_dtype
from vlm_jax.parallel.runtime import cores


def make_peer(kind: str, variant: str, trial: Any) -> Peer:
    """`variant`: greedy or beamN. `kind`: decode."""
    if kind != "decode":
        raise ValueError("this peer only decodes")
    torch.set_num_threads(cores())
    beams = 1 if variant == "greedy" else int(variant.removeprefix("beam"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _model(trial).eval().to(device)
    b = trial.batch
    pixels = torch.from_numpy(b.image[:, 0].transpose(0, 3, 1, 2).copy()).to(device)
    texts, length = len(trial.model.text_tasks), trial.config.data.target_length
    low = resolve_dtype(trial.config.model.dtype).name == "bfloat16"
    precision = torch.autocast(device, torch.bfloat16) if low else contextlib.nullcontext()

    @torch.no_grad()
    def call() -> None:
        with precision:
            encoded = model.encoder(pixels.float() / 127.5 - 1).last_hidden_state.repeat_interleave(texts, 0)
            out = model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                decoder_start_token_id=3,
                min_new_tokens=length - 1,
                max_new_tokens=length - 1,
                num_beams=beams,
                do_sample=False,
                suppress_tokens=[0, END],
                eos_token_id=END,
                pad_token_id=0,
            )
        assert out.shape == (len(pixels) * texts, length), out.shape
        if device == "cuda":
            torch.cuda.synchronize()

    return Peer(f"Hugging Face generate, {variant}", call, None, "reads the image alone: no prompts, no fusion")


def _model(trial: Any) -> Any:
    m, size = trial.config.model, trial.config.data.image_size
    vision = ViTConfig(
        hidden_size=m.image_encoder.width,
        num_hidden_layers=m.image_encoder.layers,
        num_attention_heads=m.image_encoder.heads,
        intermediate_size=m.image_encoder.mlp,
        image_size=size,
        patch_size=m.image_encoder.patch,
    )
    text = BertGenerationConfig(
        vocab_size=trial.model.vocab_size,
        hidden_size=m.text_encoder.width,
        num_hidden_layers=m.decoder.layers,
        num_attention_heads=m.decoder.heads,
        intermediate_size=m.decoder.mlp,
        max_position_embeddings=m.decoder.positions,
        is_decoder=True,
        add_cross_attention=True,
        bos_token_id=3,
        eos_token_id=END,
        pad_token_id=0,
    )
    encoder = ViTModel(vision, add_pooling_layer=False)
    return VisionEncoderDecoderModel(encoder=encoder, decoder=BertGenerationDecoder(text))
