"""What a training left, by ``trainer_state.json``, and how its loss went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ._json import parsed

#: The share of a training's steps that its start and its end are averaged over.
SHARE = 0.2


class Logged(BaseModel):
    """A line of the log: the mean loss since the one before, or that of what was held out; the last has the seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=True)
    step: int
    loss: float | None = None
    eval_loss: float | None = None
    train_runtime: float | None = None


class State(BaseModel):
    """``trainer_state.json`` of transformers 5.16, as far as it is judged."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    epoch: float
    global_step: Annotated[int, Field(ge=1)]
    max_steps: int
    train_batch_size: int
    log_history: tuple[Logged, ...]

    @property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """Step and loss of each line of the log that has one."""
        return tuple((one.step, one.loss) for one in self.log_history if one.loss is not None)

    @property
    def evaluations(self) -> tuple[float, ...]:
        """The loss of what was held out, each time that it was judged."""
        return tuple(one.eval_loss for one in self.log_history if one.eval_loss is not None)

    @property
    def runtime(self) -> float:
        """Seconds from the first step to the last; 0 where the log does not say."""
        return next((one.train_runtime for one in reversed(self.log_history) if one.train_runtime is not None), 0.0)


def parse_state(text: str, where: str) -> State:
    """Read ``trainer_state.json``. Raises :class:`AssertionError` naming the first thing that is wrong."""
    return parsed(State, text, where, "trainer_state.json of transformers")


def ends(losses: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The mean loss at the start and at the end: of the first and the last fifth of the log's lines.

    >>> ends([(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.5), (5, 1.0)])
    (4.0, 1.0)
    """
    count = max(1, round(len(losses) * SHARE))
    values = [loss for _, loss in losses]
    return statistics.fmean(values[:count]), statistics.fmean(values[-count:])


def falls(state: State, where: str, least: float = 0.05) -> tuple[float, float]:
    """Hold the loss to falling by ``least`` of its start; start and end."""
    assert len(state.losses) > 1, f"{where}: logged {len(state.losses)} losses; expected one every few steps"
    odd = [(step, loss) for step, loss in state.losses if not math.isfinite(loss)]
    assert not odd, f"{where}: the loss is {odd[0][1]} at step {odd[0][0]}; expected a number"
    start, end = ends(state.losses)
    assert end < start * (1 - least), (
        f"{where}: the loss went from {start:.4f} to {end:.4f}; expected that it falls by {least:.0%} at least"
    )
    return start, end
