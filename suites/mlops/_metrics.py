"""What a training job says of itself, held to a schema, and to what can be true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: The share of its wall time that a job's own count of seconds may be longer: clocks of two processes.
_CLOCKS = 1.02
T = TypeVar("T")


class _Strict(BaseModel):
    # Infinite and no numbers are let through here, so that the check of the loss can say which epoch has them.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Epoch(_Strict):
    """One epoch: the mean loss over its samples, percent of the held-out images told right after it, seconds."""

    epoch: Annotated[int, Field(ge=1)]
    loss: float
    accuracy: Annotated[float, Field(ge=0, le=100)]
    seconds: Annotated[float, Field(gt=0)]
    samples_per_second: Annotated[float, Field(gt=0)]


class Metrics(_Strict):
    """``metrics.json``. Its first four fields are those of the plan (MLOPS-1.1); accuracy is in percent, held out."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    epochs: Annotated[int, Field(ge=1)]
    loss: float
    accuracy: Annotated[float, Field(ge=0, le=100)]
    training_time_seconds: Annotated[float, Field(gt=0)]
    dataset: str
    model: str
    samples: Annotated[int, Field(ge=1)]
    held_out: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    seed: int
    processes: Annotated[int, Field(ge=1)]
    backend: str
    device: str
    torch: str
    resumed_from: Annotated[int, Field(ge=0)]
    parameters: Digest
    history: Annotated[tuple[Epoch, ...], Field(min_length=1)]

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss of each epoch."""
        return tuple(one.loss for one in self.history)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The accuracy after each epoch."""
        return tuple(one.accuracy for one in self.history)


class Rank(_Strict):
    """One process in ``ranks.json``: digests of its parameters at first and after each epoch, samples of each epoch.

    ``endpoint`` is where torchrun met (host:port of the job), ``master`` where its processes did; empty of one alone.
    """

    rank: Annotated[int, Field(ge=0)]
    node: str
    backend: str
    device: str
    endpoint: str
    master: str
    gpu: str
    initial: Digest
    parameters: tuple[Digest, ...]
    samples: tuple[tuple[int, ...], ...]


_METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)
_RANKS: TypeAdapter[tuple[Rank, ...]] = TypeAdapter(tuple[Rank, ...])


def parse_metrics(text: str, where: str) -> Metrics:
    """Read ``metrics.json``. Raises :class:`AssertionError` naming each field that is missing, unknown or wrong."""
    return _parse(_METRICS, text, where)


def parse_ranks(text: str, where: str) -> tuple[Rank, ...]:
    """Read ``ranks.json``. Raises as above."""
    return _parse(_RANKS, text, where)


def _parse(form: TypeAdapter[T], text: str, where: str) -> T:
    try:
        return form.validate_json(text, strict=True)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors(include_url=False)]
        raise AssertionError(f"{where}: {'; '.join(wrong)}; expected what suites/mlops/_metrics.py describes") from None


def implausible(metrics: Metrics, elapsed: float) -> Iterator[str]:
    """What in it cannot be true of a job that took ``elapsed`` seconds in all."""
    if len(metrics.history) != metrics.epochs:
        yield f"it tells of {len(metrics.history)} epochs, and says that there were {metrics.epochs}"
    if [one.epoch for one in metrics.history] != list(range(1, len(metrics.history) + 1)):
        yield f"its epochs are {[one.epoch for one in metrics.history]}, expected 1 to {len(metrics.history)}"
    last = metrics.history[-1]
    if (metrics.loss, metrics.accuracy) != (last.loss, last.accuracy) and not math.isnan(metrics.loss):
        yield "its loss and accuracy are not those of its last epoch"
    hits = metrics.accuracy / 100 * metrics.held_out
    if abs(hits - round(hits)) > 1e-6 * metrics.held_out:
        yield f"an accuracy of {metrics.accuracy} % of {metrics.held_out} images is no whole number of images"
    # What a job that was begun anew did before is in its history, not in its time.
    own = sum(one.seconds for one in metrics.history if one.epoch > metrics.resumed_from)
    if own > metrics.training_time_seconds * _CLOCKS:
        yield f"its epochs took {own:.2f} s together, and all of it {metrics.training_time_seconds:.2f} s"
    if metrics.training_time_seconds > elapsed * _CLOCKS + 1:  # who ran it counts whole seconds
        yield f"it trained for {metrics.training_time_seconds:.2f} s in a job of {elapsed:.0f} s"
    if min(metrics.losses) < 0:
        yield f"a loss of {min(metrics.losses)} is none of cross-entropy"


def falls(metrics: Metrics, where: str) -> None:
    """Hold the loss to being a number in each epoch, and lower at the end than at first."""
    for one in metrics.history:
        assert math.isfinite(one.loss), f"{where}: the loss of epoch {one.epoch} is {one.loss}, expected a number"
    assert len(metrics.history) > 1, f"{where}: one epoch says nothing of whether the loss falls; expected two"
    first, last = metrics.losses[0], metrics.losses[-1]
    assert last < first, (
        f"{where}: the loss was {first:.4g} in the first epoch and {last:.4g} in the last; it must fall"
    )
