"""The typed schema of a run, the only one. Field comments are its reference (docs/reference/config.md)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataConfig:
    path: tuple[str, ...] = ()  # data set directories, as `data build|simulate --out` named them
    weights: tuple[float, ...] = ()  # mixture weight of each path in training; empty = by number of records
    split: str = "kfold:5:0"  # kfold:N:I, loo:ID or list:FILE, for all or source=rule,source=rule
    group_by: str = ""  # patient, procedure or sequence (or source=rule,...); empty = the strictest the source has
    validation_fraction: float = 0.25  # share of the groups that are not in test (at least one)
    image_size: int = 224  # pixels, square
    prompt_length: int = 64  # tokens S
    target_length: int = 32  # tokens T, task token and [EOS] included
    landmark_labels: str = "activity"  # activity (the paper's reading) or visible (the frame's own)
    tokenizer: str = ""  # a tokenizer.json; new = WordPiece of the training texts; empty = train.start_from's, else new
    vocab_size: int = 4096  # of the trained tokenizer, at most
    frames: int = 1  # F: the frame itself and F - 1 frames before it in its video
    frame_step: int = 1  # how many frames of the data set lie between two of them
    sampling: str = "uniform"  # uniform, class_balanced or repeat_factor, of rare landmarks, by activity
    repeat_threshold: float = 0.2  # share of the activities under which repeat_factor repeats a landmark's
    threads: int = 2  # reading threads
    prefetch: int = 8  # buffered records, per thread


@dataclass(frozen=True)
class AugmentConfig:
    flip: float = 0.0  # probability of a mirror image; swaps left and right in every text with it
    rotate: float = 10.0  # degrees, at most 10: descriptions name clock positions
    scale: float = 0.1  # zoom by up to this share
    translate: float = 0.05  # shift by up to this share of the side
    crop: float = 0.0  # least share of the area that a random crop keeps; 0 = none (pre-training on images only)
    brightness: float = 0.2  # a factor of up to this much more or less
    contrast: float = 0.2  # a factor of up to this much more or less, about the mean grey
    saturation: float = 0.2  # a factor of up to this much more or less, about the grey image
    hue: float = 0.02  # turns
    drop_text: float = 0.1  # probability that a context is replaced by the null token, in records with an image
    drop_image: float = 0.0  # probability that the image is replaced by the null embedding


@dataclass(frozen=True)
class ImageEncoderConfig:
    width: int = 384  # of a token; the text encoder's is another
    layers: int = 12  # transformer blocks
    heads: int = 6  # of attention; divides width
    mlp: int = 1536  # width inside a block's feed-forward part
    patch: int = 16  # pixels of a token's side; divides data.image_size
    stem: str = "patch"  # what a token starts as: patch (its pixels) or backbone (a place of model.backbone's map)
    epsilon: float = 1e-6  # of its norms; Hugging Face's ViT and DeiT have 1e-12
    drop_path: float = 0.0  # probability that training passes over the last block, growing linearly from 0
    mean: tuple[float, float, float] = (0.3464, 0.2280, 0.2228)  # EndoViT's normalisation, of values in 0-1
    std: tuple[float, float, float] = (0.2520, 0.2128, 0.2093)  # of the same
    init: str = ""  # an imported directory or a work directory to start from; empty = random


@dataclass(frozen=True)
class TextEncoderConfig:
    width: int = 384  # of a token, and of the decoder
    layers: int = 12  # transformer blocks
    heads: int = 12  # of attention; divides width
    mlp: int = 1536  # width inside a block's feed-forward part
    positions: int = 512  # rows of the position table; data.prompt_length at least
    token_types: int = 2  # rows of the token type table; 0 = none (DistilBERT)
    init: str = ""  # an imported directory or a work directory to start from; empty = random


@dataclass(frozen=True)
class DecoderConfig:
    layers: int = 2  # blocks of self-attention, cross-attention and feed-forward part
    heads: int = 12  # of attention; divides text_encoder.width
    mlp: int = 1536  # width inside a block's feed-forward part
    positions: int = 128  # rows of the target position table


@dataclass(frozen=True)
class GptConfig:
    width: int = 768  # of a token
    layers: int = 12  # transformer blocks
    heads: int = 12  # of attention; divides width
    positions: int = 1024  # rows of the position table
    vision: str = "resnet18"  # what makes the vision tokens: resnet18, swin_t or vit
    vision_tokens: str = "patches"  # of resnet18: patches (its last map) or pooled (one token); the others: patches
    vision_positions: str = "zero"  # none (one count over words and vision, no token types), zero or ordered
    head_width: int = 512  # between the pooled sequence and the classes
    head_dropout: float = 0.1  # probability, between the pooled sequence and the classes
    init: str = ""  # an imported directory or a work directory to start from; empty = random


@dataclass(frozen=True)
class BackboneConfig:
    name: str = "resnet50"  # resnet18, resnet50, efficientnet_lite0 or swin_t: the image network of baselines
    width_factor: float = 1.0  # of the published channels (EfficientNet-Lite's stem and head stay as they are)
    depths: tuple[int, ...] = ()  # blocks a stage (EfficientNet-Lite: 7 stages, the others 4); empty = as published
    window: int = 7  # Swin's, in patches of 4 pixels
    drop_path: float = 0.0  # of the last block, growing linearly from 0 (EfficientNet's drop-connect)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's normalisation, of values in 0-1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # of the same
    init: str = ""  # an imported directory or a work directory to start from; empty = random


@dataclass(frozen=True)
class Seq2SeqConfig:
    kind: str = "transformer"  # transformer, lstm (with attention) or encoder_decoder (LSTM without attention)
    width: int = 256  # of words, states and sublayers
    layers: int = 2  # of the encoder, and as many of the decoder
    heads: int = 4  # of the transformer
    mlp: int = 1024  # of the transformer
    positions: str = "sinusoidal"  # of the transformer: sinusoidal (Vaswani et al. 2017) or learned
    bidirectional: bool = False  # encoder of the LSTM kinds


@dataclass(frozen=True)
class HmmConfig:
    states: int = 64  # hidden states, at most
    sentences: int = 2048  # different training descriptions that can be answered, at most
    iterations: int = 20  # of Baum-Welch, at most
    smoothing: float = 0.01  # pseudo-count of every transition and emission


@dataclass(frozen=True)
class MaeConfig:
    mask_ratio: float = 0.75  # share of the patches that is hidden
    decoder_width: int = 512  # of a token
    decoder_layers: int = 8  # transformer blocks
    decoder_heads: int = 16  # of attention; divides decoder_width
    decoder_mlp: int = 2048  # width inside a block's feed-forward part
    normalise_pixels: bool = True  # each patch is predicted with its own mean and deviation taken out


@dataclass(frozen=True)
class ModelConfig:
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    gpt: GptConfig = field(default_factory=GptConfig)
    mae: MaeConfig = field(default_factory=MaeConfig)
    seq2seq: Seq2SeqConfig = field(default_factory=Seq2SeqConfig)
    hmm: HmmConfig = field(default_factory=HmmConfig)
    fusion: str = "cross_attention"  # cross_attention, concat (ablation no_cross_attention), pooled or separate
    fusion_heads: int = 12  # of the two cross-attention sublayers
    condition_on_landmarks: bool = False  # the decoder of describe also sees the predicted landmarks
    region_width: int = 0  # of the head that finds each landmark's places in finer maps and adds up its area; 0 = none
    head_bias: float = 0.0  # with which the landmark head starts (EndoViT: -2, few labels are positive)
    no_image: bool = False  # ablation: one learned null embedding in place of the image
    no_text: bool = False  # ablation: one learned null embedding in place of every prompt
    vocab_size: int = 0  # 0 = the tokenizer's size; larger = padded, the rows beyond get no logit that counts
    dropout: float = 0.0  # probability, on embeddings and on what each sublayer adds
    dtype: str = "auto"  # auto (bfloat16 on accelerators, float32 on CPU), float32 or bfloat16: activations only
    remat: bool = False  # recompute each layer in the backward pass
    remat_keep: str = "nothing"  # with remat, what is kept all the same: nothing, products (of matrices)
    scan_layers: bool = False  # one compiled layer, scanned; else unrolled
    attention: str = "xla"  # xla or cudnn


@dataclass(frozen=True)
class LossConfig:
    landmarks: str = "bce"  # bce, focal, asymmetric or class_balanced
    focal_gamma: float = 2.0  # power of focal's weight of a label, 1 - p (Lin et al. 2017)
    asymmetric_gamma_positive: float = 0.0  # the same power for labels that are there (Ridnik et al. 2021)
    asymmetric_gamma_negative: float = 4.0  # and for labels that are not
    asymmetric_clip: float = 0.05  # probability under which a label that is not there costs nothing
    logit_adjustment: float = 0.0  # times the prior's log-odds, added to the landmark logits in training; 0 = off
    class_balanced_beta: float = 0.9999  # effective number of samples (Cui et al. 2019)
    label_smoothing: float = 0.1  # share of a token's target that is spread over the vocabulary
    weighting: str = "fixed"  # fixed, or learned (log-variance; Kendall et al. 2018)
    regions_weight: float = 1.0  # of landmarks' places (model.region_width) beside their labels, where there are masks
    landmarks_weight: float = 1.0  # of the task in the sum of the losses
    describe_weight: float = 1.0  # likewise
    anticipate_weight: float = 1.0  # likewise
    report_weight: float = 1.0  # likewise


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 1e-4  # peak, after warm-up
    end_lr_factor: float = 0.01  # of the peak, at the end of the cosine
    warmup_steps: int = 100  # from 0 to lr, linearly
    weight_decay: float = 0.05  # on matrices only; not on biases, norms, positions, tokens
    b1: float = 0.9  # AdamW's decay of the mean gradient
    b2: float = 0.999  # AdamW's decay of the mean square
    eps: float = 1e-8  # AdamW's, added to the root
    clip_norm: float = 1.0  # 0 = no clipping
    layer_decay: float = 1.0  # learning-rate factor a layer, from the top of each encoder down
    freeze: str = ""  # regex over parameter paths that keep their values
    accumulate: int = 1  # micro-batches a step; train.batch_size stays the global batch
    ema: float = 0.0  # decay of the parameters' moving average; 0 = none


@dataclass(frozen=True)
class TrainConfig:
    steps: int = 1000  # updates of the parameters, in all; a longer run goes on where a shorter one ended
    start_from: str = ""  # a trained run, or an export, that all of the model and its words start from; empty = random
    batch_size: int = 32  # global
    log_every: int = 10  # steps between two rows of metrics.jsonl
    profile_steps: int = 0  # steps to trace with the JAX profiler, after the tenth
    tensorboard: bool = True  # also writes WORKDIR/tb


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 200  # steps
    keep_last: int = 2  # at least two are kept, so that a complete one is always there
    keep_best: int = 1  # by eval.select


@dataclass(frozen=True)
class GuardConfig:
    sigma: float = 6.0  # deviations above the median, in logarithms, from which a norm is skipped; 0 = non-finite only
    window: int = 64  # steps whose gradient norms are compared with
    max_skips: int = 4  # steps skipped within a window; one more, and training goes back to the checkpoint before them
    max_rollbacks: int = 3  # in a run; one more ends it
    budget: float = 0.05  # share of the training records that may be unreadable or set aside


@dataclass(frozen=True)
class EvalConfig:
    every: int = 200  # steps between validations, beside those with every checkpoint; 0 = only with checkpoints
    batch_size: int = 32  # records, global: in validation, evaluation and prediction
    calibration: str = "none"  # of landmark scores, on validation: none, temperature (a slope) or platt (and an offset)
    grammar: bool = False  # descriptions are generated within the clauses that training descriptions have
    max_units: int = 256  # of each task in evaluations during training; `vlm-jax evaluate` scores all
    select: str = "loss"  # what `best` means: loss (lowest validation loss)
    decode: str = "greedy"  # greedy, beam or mbr (of samples, the one most like the others; Eikema and Aziz 2020)
    beam: int = 4  # hypotheses of beam
    beam_decay: float = 0.0  # exponential-decay rescoring of beams: token t weighs exp(-decay * t); 0 = plain beam
    beam_length_penalty: float = 1.0  # power of the length that divides a beam's score; 0 = sum, 1 = mean
    samples: int = 16  # that mbr draws of each sentence; its time grows with them
    temperature: float = 1.0  # of mbr's samples: below 1 sharper than the model
    bootstrap: int = 1000  # resamples of the intervals
    contexts: tuple[str, ...] = ("gold", "rolled_out", "empty")  # what prompts hold: docs/reference/metrics.md


@dataclass(frozen=True)
class ParallelConfig:
    data: int = -1  # mesh axis sizes; -1 = what is left
    fsdp: int = 1  # parameters, gradients and optimiser are split over this many devices
    tensor: int = 1  # matrices are split over this many devices of one host
    mesh: str = "custom"  # custom (the sizes above), data, fsdp, tensor or hybrid (fsdp inside a slice, data across)
    coordinator: str = ""  # HOST:PORT; empty = from JAX_COORDINATOR_ADDRESS, Slurm, Cloud TPU; else one process
    num_processes: int = 0  # with coordinator: how many start; 0 = as the environment says
    process_id: int = -1  # with coordinator: this one's number, from 0; -1 = as the environment says
    init_timeout: int = 900  # seconds in which all processes must have joined
    barrier_timeout: int = 1800  # seconds in which all processes must have come to the same place
    peer_timeout: int = 100  # seconds without a sign of life after which a process counts as dead, and all stop
    heartbeat: int = 300  # seconds between lines that say where the processes stand; 0 = none


@dataclass(frozen=True)
class Config:
    name: str = "vlm"  # what the preset is called in tables and plots
    system: str = "vlm"  # which system is built: a row of the systems table
    tasks: tuple[str, ...] = ("landmarks", "describe", "anticipate", "report")  # that the model is trained for
    seed: int = 0  # of parameters, order of records, augmentation and dropout
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
