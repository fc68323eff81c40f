"""LSTM layers against torch.nn.LSTM on padded batches, and the attention decoder against the same in torch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vlm_jax.config.schema import Seq2SeqConfig
from vlm_jax.models.baselines.lstm import LstmEncoder
from vlm_jax.models.baselines.recurrent import Recurrent

WIDTH, INPUT, LAYERS = 6, 5, 2
LENGTHS = np.array([7, 3, 1])


def torch_lstm(inputs: int, bidirectional: bool) -> torch.nn.LSTM:
    torch.manual_seed(1)
    lstm = torch.nn.LSTM(inputs, WIDTH, LAYERS, batch_first=True, bidirectional=bidirectional)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.normal_(std=0.5)
    return lstm.eval()


def converted(lstm: torch.nn.LSTM, name: str) -> dict:
    """Torch's two biases are one here: only their sum has an effect."""
    tree = {}
    for key, value in lstm.named_parameters():
        if not key.startswith("weight_ih"):
            continue
        layer = key.removeprefix("weight_ih_l").removesuffix("_reverse")
        direction = "backward" if key.endswith("_reverse") else "forward"
        state = {p: getattr(lstm, key.replace("weight_ih", p)).detach().numpy() for p in ("weight_hh", "bias_ih")}
        bias = state["bias_ih"] + getattr(lstm, key.replace("weight_ih", "bias_hh")).detach().numpy()
        tree[name.format(layer=layer, direction=direction)] = {
            "input": {"kernel": value.detach().numpy().T, "bias": bias},
            "recurrent": state["weight_hh"].T,
        }
    return tree


@pytest.mark.parametrize("bidirectional", [False, True])
def test_encoder_equals_torch_on_packed_sequences(bidirectional):
    theirs = torch_lstm(INPUT, bidirectional)
    x = np.random.default_rng(0).normal(size=(3, 7, INPUT)).astype(np.float32)
    mask = np.arange(7) < LENGTHS[:, None]
    ours = LstmEncoder(WIDTH, LAYERS, bidirectional)
    variables = {"params": converted(theirs, "encoder_{layer}_{direction}")}
    outputs, last = jax.jit(ours.apply)(variables, x, mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x), torch.from_numpy(LENGTHS), batch_first=True)
    with torch.no_grad():
        expected, (hidden, cell) = theirs(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for part, theirs_last in zip(zip(*last, strict=True), (hidden, cell), strict=True):
        directions = 2 if bidirectional else 1
        by_layer = theirs_last.reshape(LAYERS, directions, 3, WIDTH).permute(0, 2, 1, 3).reshape(LAYERS, 3, -1)
        np.testing.assert_allclose(np.stack(part), by_layer, atol=1e-5)


@pytest.fixture(scope="module", params=["lstm", "encoder_decoder"])
def network(request):
    """A network with random parameters: (config, parameters, prompts, mask, targets, hidden states)."""
    config = Seq2SeqConfig(kind=request.param, width=WIDTH, layers=LAYERS, bidirectional=True)
    module = Recurrent(config)
    rng = np.random.default_rng(2)
    prompts = rng.normal(size=(3, 1, 7, WIDTH)).astype(np.float32)
    targets = rng.normal(size=(3, 1, 4, WIDTH)).astype(np.float32)
    mask = (np.arange(7) < LENGTHS[:, None])[:, None]

    def run(module, prompts, mask, targets):
        return module(targets, module.encode(prompts, mask))

    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), prompts, mask, targets, method=run))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), jnp.float32), shapes)
    hidden = jax.jit(lambda v: module.apply(v, prompts, mask, targets, method=run))(variables)
    scale = np.sqrt(np.float32(WIDTH))  # of embedded words
    return config, variables["params"], scale * prompts[:, 0], mask[:, 0], scale * targets[:, 0], hidden[:, 0]


def load(lstm: torch.nn.LSTM, tree: dict, name: str) -> torch.nn.LSTM:
    """The other way round: our parameters into torch's."""
    with torch.no_grad():
        for key, value in lstm.named_parameters():
            part, _, place = key.partition("_l")
            layer, direction = place.removesuffix("_reverse"), "backward" if "_reverse" in place else "forward"
            ours = tree[name.format(layer=layer, direction=direction)]
            if part == "bias_hh":
                value.zero_()
            else:
                array = {"weight_ih": ours["input"]["kernel"].T, "weight_hh": ours["recurrent"].T}.get(
                    part, ours["input"]["bias"]
                )
                value.copy_(torch.from_numpy(np.array(array)))
    return lstm.eval()


def test_decoder_equals_the_same_in_torch(network):
    config, params, prompts, mask, targets, hidden = network
    tensors = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), params)
    encoder = torch.nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True, bidirectional=True)
    load(encoder, params["encoder"], "encoder_{layer}_{direction}")
    decoder = load(torch.nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True), params, "decoder_{layer}")
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(prompts), torch.from_numpy(LENGTHS), batch_first=True
        )
        outputs, last = encoder(packed)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        start = []
        for part, state in zip(("hidden", "cell"), last, strict=True):
            by_layer = state.reshape(LAYERS, 2, 3, WIDTH).permute(0, 2, 1, 3).reshape(LAYERS, 3, 2 * WIDTH)
            bridges = [tensors[f"bridge_{part}_{i}"] for i in range(LAYERS)]
            start.append(
                torch.stack([torch.tanh(s @ b["kernel"] + b["bias"]) for s, b in zip(by_layer, bridges, strict=True)])
            )
        expected, _ = decoder(torch.from_numpy(targets), tuple(start))
        if config.kind == "lstm":
            scores = expected @ (outputs @ tensors["score"]["kernel"]).transpose(1, 2)
            weights = scores.masked_fill(~torch.from_numpy(mask)[:, None], float("-inf")).softmax(-1)
            both = torch.cat([weights @ outputs, expected], dim=-1)
            expected = torch.tanh(both @ tensors["combine"]["kernel"] + tensors["combine"]["bias"])
    np.testing.assert_allclose(hidden, expected, atol=1e-5)
