"""Fine-tuning of the encoder's upper layers for the heads: the branch. Needs torch, which serving does not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from serve_app.adapters.minilm import EPSILON, HEADS, LAYERS, SHARED, WIDTH
from serve_app.heads import OUTPUTS
from serve_app.lexicon import Floats

EPOCHS = 6
TOKENS = 3_072
"""Of one step; texts of like length go together."""
RATE, OUTPUT_RATE = 1.5e-4, 1e-3
"""Learning rates of the layers and of the output on top: warmed up over a tenth of the steps, then falling to 0."""
SMOOTHING = 0.02
"""A label is this far from 0 and 1: some are wrong."""
DROPOUT = 0.1
DECAY = 0.01

Made = TypeVar("Made")

Shared = Sequence[NDArray[np.float16]]
"""Per text, shape (tokens, 384): `Encoder.shared`, the first tokens of it."""


@dataclass(frozen=True, slots=True)
class Branch:
    layers: Mapping[str, Floats]
    """By the names the encoder's own weights have."""
    weights: Floats
    """Shape (outputs, 768)."""
    biases: Floats


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the branch is taught, one row per text."""

    shared: Shared
    labels: Floats
    """Shape (texts, outputs): 0, 1, or nan where nobody knows."""
    weights: Floats
    """Shape (texts, outputs)."""


def in_turn(threads: int, work: Sequence[Callable[[], Made]]) -> list[Made]:
    """Several trainings side by side, each in one thread: the same bytes as one after the other."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        return [job.result() for job in [pool.submit(each) for each in work]]


def fit(start: Mapping[str, Floats], lesson: Lesson, rows: Sequence[int]) -> Branch:
    """The branch trained on these rows of the lesson, from the encoder's own weights."""
    chance = np.random.default_rng(0)
    names = [name for name in start if name.startswith(tuple(f"encoder.layer.{at}." for at in range(SHARED, LAYERS)))]
    layers = {name: torch.tensor(start[name], requires_grad=True) for name in names}
    nothing = chance.normal(0, 0.02, (len(OUTPUTS), 2 * WIDTH)).astype(np.float32)
    weights, biases = torch.tensor(nothing, requires_grad=True), torch.zeros(len(OUTPUTS), requires_grad=True)
    parts = [{"params": list(layers.values()), "rate": RATE}, {"params": [weights, biases], "rate": OUTPUT_RATE}]
    optimiser = torch.optim.AdamW(parts, lr=RATE, weight_decay=DECAY)
    plan = [batch for _ in range(EPOCHS) for batch in _batches(lesson.shared, rows, chance)]
    for step, batch in enumerate(plan):
        for part in optimiser.param_groups:
            part["lr"] = part["rate"] * min(1.0, 10 * (step + 1) / len(plan)) * (1 - step / len(plan))
        kept = torch.from_numpy((chance.random((len(batch), 2 * WIDTH)) >= DROPOUT).astype(np.float32))
        states = _states(layers, *_padded(lesson.shared, batch)) * kept / (1 - DROPOUT)
        loss = _loss(states @ weights.T + biases, lesson, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*layers.values(), weights, biases], 1.0)
        optimiser.step()
    made = {name: values.detach().numpy() for name, values in layers.items()}
    return Branch(made, weights.detach().numpy(), biases.detach().numpy())


def logits(branch: Branch, shared: Shared, rows: Sequence[int]) -> Floats:
    """Shape (len(rows), outputs)."""
    layers = {name: torch.from_numpy(values) for name, values in branch.layers.items()}
    made = np.zeros((len(rows), len(OUTPUTS)), dtype=np.float32)
    place = {row: position for position, row in enumerate(rows)}
    with torch.no_grad():
        for batch in _batches(shared, rows):
            states = _states(layers, *_padded(shared, batch)).numpy()
            made[[place[row] for row in batch]] = states @ branch.weights.T + branch.biases
    return made


def _batches(shared: Shared, rows: Sequence[int], chance: np.random.Generator | None = None) -> Iterator[list[int]]:
    """With `chance`, in another order each time."""
    jitter = chance.uniform(0, 4, len(rows)) if chance else np.zeros(len(rows))
    order = np.argsort([len(shared[row]) for row in rows] + jitter, kind="stable")
    batches: list[list[int]] = [[]]
    for position in order:
        row = rows[position]
        if batches[-1] and (len(batches[-1]) + 1) * len(shared[row]) > TOKENS:
            batches.append([])
        batches[-1].append(row)
    if chance:
        chance.shuffle(batches)
    yield from batches


def _padded(shared: Shared, batch: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(shared[row]) for row in batch)
    state = torch.zeros(len(batch), width, WIDTH)
    mask = torch.zeros(len(batch), width, dtype=torch.bool)
    for position, row in enumerate(batch):
        state[position, : len(shared[row])] = torch.from_numpy(shared[row].astype(np.float32))
        mask[position, : len(shared[row])] = True
    return state, mask


def _states(layers: Mapping[str, torch.Tensor], state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As `minilm.branch` computes them, in bfloat16: three times as fast where the processor has it."""
    with torch.autocast("cpu", torch.bfloat16):
        for layer in range(SHARED, LAYERS):
            state = _layer(layers, f"encoder.layer.{layer}", state, mask)
    state = state.float()
    kept = mask[:, :, None]
    mean = (state * kept).sum(1) / kept.sum(1)
    return torch.cat([mean, state.masked_fill(~kept, -1e4).amax(1)], 1)


def _layer(weights: Mapping[str, torch.Tensor], name: str, state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    def linear(part: str, given: torch.Tensor) -> torch.Tensor:
        return functional.linear(given, weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"])

    def normal(part: str, given: torch.Tensor) -> torch.Tensor:
        scale, shift = weights[f"{name}.{part}.LayerNorm.weight"], weights[f"{name}.{part}.LayerNorm.bias"]
        return functional.layer_norm(given, (WIDTH,), scale, shift, EPSILON)

    size = (*state.shape[:2], HEADS, WIDTH // HEADS)
    query, key, value = (
        linear(f"attention.self.{part}", state).view(size).transpose(1, 2) for part in ("query", "key", "value")
    )
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
    mixed = linear("attention.output.dense", attended.transpose(1, 2).reshape(state.shape))
    middle = normal("attention.output", mixed + state)
    wide = functional.gelu(linear("intermediate.dense", middle))
    return normal("output", linear("output.dense", wide) + middle)


def _loss(made: torch.Tensor, lesson: Lesson, batch: Sequence[int]) -> torch.Tensor:
    wanted = torch.from_numpy(lesson.labels[batch])
    known = ~torch.isnan(wanted)
    smooth = torch.where(known, wanted, 0.0) * (1 - 2 * SMOOTHING) + SMOOTHING
    each = functional.binary_cross_entropy_with_logits(made, smooth, reduction="none")
    return (each * known * torch.from_numpy(lesson.weights[batch])).sum() / len(batch)
