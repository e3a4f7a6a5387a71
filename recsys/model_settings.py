"""The tables of what is fitted: towers, their training, pretraining and fine-tuning of the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys.section import Section


class ModelConfig(Section):
    """The two towers."""

    history_length: int = Field(50, ge=1, le=500)
    """How many of the newest events the user tower reads."""
    dim: int | None = Field(None, ge=8)
    """Dimensions kept by whitening; None keeps all (128 where the catalogue is under twice the encoder's)."""
    shrinkage: float = Field(10.0, ge=0)
    """Kappa in n / (n + kappa), the share of an item's residual that its n events have earned."""
    decay: float = Field(0.9, gt=0, le=1)
    """Starting weight of each step back in the history; learned from there."""
    temperature: float = Field(0.07, gt=0)
    """Starting temperature of the softmax; learned from there."""
    item_bias: bool = True
    """A learned bias per item, shrunk by its evidence, in the place of the texts' last coordinate."""
    bias_over_time: bool = True
    """The bias reads how much an item had sold by the moment of each row; false: how often it sold in all."""
    lift: float = Field(0.3, ge=0, le=2)
    """How far items without training events are raised, where no validation chooses it."""


class TrainConfig(Section):
    """Fitting the towers over fixed text vectors."""

    max_epochs: int = Field(12, ge=1)
    """Passes over the training contexts at most; early stopping on validation ndcg@10 ends it before."""
    epoch_contexts: int = Field(250_000, ge=1)
    """Contexts of an epoch at most: where there are more, an epoch reads so many and the next one goes on, so
    that a large shop is judged as often as a small one and its fit ends in bounded time."""
    patience: int = Field(2, ge=1)
    """Epochs without a better validation figure before stopping."""
    batch_size: int = Field(256, ge=1)
    """Contexts per optimiser step at most, over all processes."""
    min_steps: int = Field(40, ge=1)
    """Optimiser steps per epoch at least, as far as batches of 16 give them: a small shop gets smaller
    batches, or early stopping would end before anything is learned."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches per optimiser step."""
    num_negatives: int = Field(1500, ge=1)
    """Uniform negatives per batch beside its positives; the full softmax where the catalogue is smaller."""
    negatives: Literal["uniform", "in_batch"] = "uniform"
    """`uniform`: from the items seen in training. `in_batch`: other targets of the batch, logQ-corrected."""
    logq: Literal["negatives", "all", "off"] = "negatives"
    """Under `in_batch`: correct the sampled logits alone, the target's own too, or none."""
    repeat_weight: float = Field(0.25, ge=0, le=1)
    """Weight of a target that its user had before, beside 1 of one that is new to the user."""
    mask_own: bool = False
    """A user's other items, had before or taken later, are not held against his targets."""
    mask_near: float = Field(0.0, ge=0, le=1, examples=[0.9])
    """Items whose text is at least so near (cosine) to a target's are not held against it; 0 is off."""
    hard_negatives: int = Field(0, ge=0, le=1000, examples=[10])
    """Nearest wrong items per context, sought in the item vectors as of the epoch's start; 0 is off."""
    hard_margin: float = Field(0.95, gt=0, le=1)
    """A hard negative's similarity is at most this share of that of the context's targets."""
    hard_weight: float = Field(1.0, gt=0, le=100)
    """How many times a hard negative counts, beside its place among the uniform ones."""
    hard_after: int = Field(1, ge=0)
    """Epochs before hard negatives enter."""
    hard_pool: int = Field(20_000, ge=1)
    """Items among which hard negatives are sought, drawn anew each epoch where more were seen."""
    validation_contexts: int = Field(8192, ge=1)
    """Validation contexts that early stopping looks at, drawn at random when there are more."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak rate of AdamW for the residuals."""
    user_learning_rate: float = Field(2e-2, gt=0)
    """Peak rate for the user tower's biases and the temperature."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of steps with a rising rate; it then falls by a cosine to a tenth."""
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    residual_dropout: float = Field(0.3, ge=0, lt=1)
    """Chance that an item's residual is dropped for a step, so that text alone must do."""
    checkpoint_steps: int = Field(200, ge=1)
    """Optimiser steps between checkpoints."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast for the encoder where the device computes in it, fp32 elsewhere."""


class PretrainConfig(Section):
    """Masked-language-model training of BERT on the catalogue's texts; kept by the rule of fine-tuning."""

    enabled: bool = False
    """Off takes the encoder as it was published."""
    steps: int = Field(200, ge=1)
    """Optimiser steps at most."""
    max_passes: float = Field(10.0, gt=0)
    """Passes over the distinct texts at most: a small catalogue needs fewer steps."""
    layers: int = Field(6, ge=1)
    """Top layers that learn, beside the head; the word embeddings stay."""
    batch_tokens: int = Field(4096, ge=64)
    """Padded tokens per step, texts grouped by length."""
    mask_rate: float = Field(0.15, ge=0.05, le=0.5)
    """Share of words that are hidden, drawn anew at each step; one per text at least."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak rate for the encoder's weights; the head learns at ten times this."""


class FinetuneConfig(Section):
    """Fine-tuning BERT item-centrically; kept where warm and cold items gain on validation."""

    enabled: bool = True
    """Off keeps BERT frozen."""
    layers: int = Field(2, ge=1)
    """Top layers that learn; the ones below are frozen and their output is cached."""
    steps: int = Field(60, ge=1)
    """Optimiser steps at most."""
    max_passes: float = Field(10.0, gt=0)
    """Passes over the distinct texts at most: a small catalogue needs fewer steps."""
    items_per_step: int = Field(768, ge=8)
    """Distinct items encoded with gradients per step."""
    contexts_per_step: int = Field(1024, ge=1)
    """Contexts with targets among those items, per step."""
    candidates: Literal["drawn", "all"] = "drawn"
    """`drawn`: a step's items against one another. `all`: against every seen item, refreshed now and then."""
    gradient_cache: bool = False
    """Encode each step's texts twice, so that memory holds one batch's graph: large steps on small memory."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak rate for the encoder's weights."""
    residual_dropout: float = Field(0.95, ge=0, lt=1)
    """Chance that an item's residual is dropped for a step: what events teach then goes into the texts,
    and so to items without events."""
    drift_weight: float = Field(0.1, ge=0)
    """Weight of the cosine distance between an item's new and un-tuned vector: it protects cold items."""
    wording_weight: float = Field(0.3, ge=0)
    """Weight of the loss by which an augmented text must find the item's own among the texts of a step."""
    refresh_steps: int = Field(20, ge=1)
    """Steps between refreshes of the vectors of items outside the batch, and between checkpoints."""
    cache_gib: float = Field(2.0, ge=0)
    """Frozen layers' output is kept in memory up to this size; beyond it they are run again in every step."""


class QueriesConfig(Section):
    """Teaching the encoder that reads search queries; kept where titles, whole or not, are found better."""

    enabled: bool = True
    """Off reads queries with the encoder that made the items' vectors, as does `augment.enabled=false`."""
    policy: str = "spelling"
    """Preset or file whose text ops word titles as people type them."""
    mix: float = Field(0.75, ge=0, le=1)
    """Chance that a title is read in another wording instead of its own."""
    layers: int = Field(2, ge=1, examples=[1, 4])
    """Top layers that learn, of a copy: the items' vectors stay."""
    steps: int = Field(300, ge=1)
    """Optimiser steps at most."""
    max_passes: float = Field(3.0, gt=0, examples=[1.0, 6.0])
    """Passes over the distinct titles at most: a small catalogue needs fewer steps."""
    titles_per_step: int = Field(64, ge=2, examples=[32])
    """Distinct titles encoded with gradients per step."""
    candidates: int = Field(4096, ge=2, examples=[256])
    """Items, drawn anew in each step where more have a text, among which a query must find its own."""
    learning_rate: float = Field(2e-4, gt=0, examples=[1e-4])
    """Peak rate for the encoder's weights."""
