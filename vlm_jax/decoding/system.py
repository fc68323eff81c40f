"""`System`: a model with all it needs to answer a batch, from a checkpoint or from parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vlm_jax.checkpoint.compare import require_same
from vlm_jax.checkpoint.store import restore_for_inference
from vlm_jax.config.answering import answering
from vlm_jax.config.load import Overrides
from vlm_jax.config.pretraining import PRETRAINED_PART
from vlm_jax.config.schema import Config
from vlm_jax.contract import Batch, LabelSpace
from vlm_jax.decoding.constraints import vocabulary_mask
from vlm_jax.decoding.generated import Generated
from vlm_jax.decoding.grammar import Grammar, build_grammar
from vlm_jax.decoding.strategies import make_generate
from vlm_jax.errors import UserError
from vlm_jax.metrics.calibration import calibrate
from vlm_jax.models import build_model, init_params
from vlm_jax.models.vlm import Vlm
from vlm_jax.text.tokenizer import Tokenizer
from vlm_jax.weights.export import is_export, read_export

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class RawPrediction:
    """Answers to a batch of B rows, on the host.

    Attributes:
      probabilities: f32[B, C], or None where the system has no landmark task.
      texts: {text task: B strings}; `contract.END` where the model says that the procedure ends here.
      scores: {text task: f32[B]}, mean log-probability a token.
      shares: f32[B, h, w, C], of each place what each landmark covers; None where the system marks no places.
    """

    probabilities: np.ndarray | None
    texts: dict[str, list[str]]
    scores: dict[str, np.ndarray]
    shares: np.ndarray | None = None


@dataclass
class System:
    """A runnable model. Assign `params`, or use `with_params`, to go on training: nothing is compiled again.

    Attributes:
      model: has `text_tasks`, `encode`, `init_cache` and `decode_step`.
      params: nested dict of arrays.
      thresholds: {scoped landmark name: threshold, or None where none could be chosen}.
      calibration: {scoped landmark name: (slope, offset) of its logit}.
      clauses: what descriptions are made of, where `eval.grammar` holds generation to them.
      meta: of the checkpoint (step, data sources, those of the runs it started from, metrics, versions); empty during
        training.
      generate: the compiled decoding function; built from `config.eval` when not given.
      encode: the compiled (params, image, frame_mask, prompt) -> logits of landmarks f32[B, C] and of their places
        f32[B, h, w, C], None where the model marks none.
      narrow: {text tasks: the compiled decoding function of these alone}, built when first asked for.
    """

    config: Config
    model: Any
    params: Any
    tokenizer: Tokenizer
    labels: LabelSpace
    thresholds: dict[str, float | None] = field(default_factory=dict)
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    clauses: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    generate: Callable[..., Generated] | None = None
    encode: Callable[..., tuple[jax.Array, jax.Array | None]] | None = None
    narrow: dict[tuple[str, ...], Callable[..., Generated]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.encode is None:
            self.encode = _make_encode(self.model)
        if self.generate is None:
            self.generate = self._make_generate(self.model)

    @staticmethod
    def from_parts(
        config: Config,
        params: Any,
        tokenizer: Tokenizer,
        labels: LabelSpace,
        thresholds: Mapping[str, float | None] | None = None,
        *,
        model: Any = None,
    ) -> System:
        """A system from what training holds in memory; `model` is built from the config when not given."""
        built = build_model(config, len(labels), tokenizer.size) if model is None else model
        return System(config, built, params, tokenizer, labels, dict(thresholds or {}))

    @staticmethod
    def from_checkpoint(
        path: str, step: str | int = "best", dtype: str | None = None, settings: Overrides = ()
    ) -> System:
        """Reads a work directory, its checkpoints/, one step's directory, or an export.

        Args:
          step: best, last or a number.
          dtype: float32 or bfloat16 for parameters and activations; None = parameters as stored, activations as the
            run's `model.dtype` says.
          settings: {key: value} over the run's, of those that `config.answering` names.

        Raises:
          UserError: nothing there, an unknown step, dtype or setting, or parameters that do not fit the stored config.
        """
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}, or None for the run's own")
        restored = read_export(path, step) if is_export(path) else restore_for_inference(path, step)
        meta = restored.meta
        _refuse_pretraining(path, meta.config)
        tokenizer, labels = Tokenizer.from_json(meta.tokenizer), LabelSpace(tuple(meta.labels))
        config = answering(meta.config, settings)
        if dtype not in (None, "float32") and config.system == "hmm":
            raise UserError(f"dtype={dtype}: hmm holds tables of log-probabilities, which that rounds; leave dtype out")
        if dtype is not None:
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
        model = build_model(config, len(labels), tokenizer.size)
        expected = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
        require_same(restored.params, expected, item="params", where=f"of step {restored.step}")
        params = jax.device_put(restored.params if dtype is None else cast(restored.params, dtype))
        named = ("sources", "inherited", "metrics", "versions")
        about = {"step": restored.step} | {name: getattr(meta, name) for name in named}
        kept = (dict(meta.thresholds), dict(meta.calibration), meta.clauses)
        return System(config, model, params, tokenizer, labels, *kept, about)

    def with_params(self, params: Any) -> System:
        """The same system with other parameters; shares the compiled functions."""
        return dataclasses.replace(self, params=params)

    def predict(self, batch: Batch, tasks: Sequence[str] | None = None) -> RawPrediction:
        """Answers every row of a batch, padded rows included; compiled once a shape.

        Args:
          tasks: the text tasks to answer, at least one; others may be left out, and landmarks with them. None = all.
        """
        answered = tuple(t for t in self.model.text_tasks if tasks is None or t in tasks)
        generate = self.generate
        if tasks is None or answered == self.model.text_tasks or not isinstance(self.model, Vlm):
            answered = self.model.text_tasks
        else:
            if answered not in self.narrow:
                part = self.model.clone(tasks=answered)  # its parameters are among those of the whole
                self.narrow[answered] = self._make_generate(part)
            generate = self.narrow[answered]
        assert generate is not None
        out = generate(self.params, batch.image, batch.frame_mask, batch.prompt)
        logits, tokens, scores, regions = to_host((out.landmark_logits, out.tokens, out.scores, out.region_logits))
        return RawPrediction(
            probabilities=None if logits is None else self._calibrated(logits),
            texts={task: [self.text(row) for row in tokens[:, r]] for r, task in enumerate(answered)},
            scores={task: scores[:, r] for r, task in enumerate(answered)},
            shares=None if regions is None else probabilities(regions),
        )

    def probabilities(self, batch: Batch) -> np.ndarray:
        """Landmark probabilities f32[B, C] of a system with that task: nothing is generated."""
        assert self.encode is not None
        logits, _ = self.encode(self.params, batch.image, batch.frame_mask, batch.prompt)
        return self._calibrated(to_host(logits))

    def places(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        """`probabilities`, and the shares f32[B, h, w, C] of places that each landmark covers; None without places."""
        assert self.encode is not None
        logits, regions = to_host(self.encode(self.params, batch.image, batch.frame_mask, batch.prompt))
        return self._calibrated(logits), None if regions is None else probabilities(regions)

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        return calibrate(probabilities(logits), self.labels.names, self.calibration)

    def _make_generate(self, model: Any) -> Callable[..., Generated]:
        grammar = None
        if self.config.eval.grammar:
            names = [name.split("/", 1)[1] for name in self.labels.names]
            grammar = build_grammar(self.clauses, names, self.tokenizer)
        return _make_generate(self.config, model, self.tokenizer, grammar)

    def text(self, tokens: np.ndarray) -> str:
        """The text of int32[T], task token first, as `Tokenizer.decode` reads it."""
        return self.tokenizer.decode(tokens[1:].tolist())


def _refuse_pretraining(path: str, config: Config) -> None:
    if part := PRETRAINED_PART.get(config.tasks[0]):
        raise UserError(
            f"'{path}' is of pre-training ({config.tasks[0]}): it has nothing to evaluate or predict; train a model "
            f"from it with --config.model.{part}.init={path}"
        )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """float32: a sigmoid that cannot overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float32)))


def _make_encode(model: Any) -> Callable[..., tuple[jax.Array, jax.Array | None]]:
    def encode(params: Any, *inputs: Any) -> tuple[jax.Array, jax.Array | None]:
        memory = model.apply({"params": params}, *inputs, method="encode")
        return memory.landmark_logits, getattr(memory, "region_logits", None)  # the baselines' have no places

    return jax.jit(encode)


def _make_generate(
    config: Config, model: Any, tokenizer: Tokenizer, grammar: Grammar | None
) -> Callable[..., Generated]:
    settings = config.eval
    return make_generate(
        model,
        settings.decode,  # pyright: ignore[reportArgumentType]  # config.rules holds the list
        length=config.data.target_length,
        eos_id=tokenizer.eos_id,
        task_ids={task: tokenizer.task_id(task) for task in model.text_tasks},
        beam=settings.beam,
        decay=settings.beam_decay,
        length_penalty=settings.beam_length_penalty,
        samples=settings.samples,
        temperature=settings.temperature,
        allowed=vocabulary_mask(tokenizer, model.text_tasks),
        grammar=grammar,
    )


def cast(params: Any, dtype: str) -> Any:
    """Floating-point leaves in another dtype; integers as they are."""

    def convert(leaf: Any) -> Any:
        return leaf.astype(dtype) if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) else leaf

    return jax.tree.map(convert, params)


def to_host(tree: Any) -> Any:
    """Numpy arrays; rows that other processes hold are gathered."""

    def fetch(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable:
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)
