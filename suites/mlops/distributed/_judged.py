"""What the processes of one training must have in common, and what each must have had for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .._metrics import Rank
from .._trained import Trained


def in_place(trained: Trained, backend: str) -> tuple[Rank, ...]:
    """Hold a training to the processes that it was to have: each once, where it was asked for, over ``backend``."""
    ranks, request = trained.ranks(), trained.request
    wanted = request.nodes * request.per_node
    numbers = [one.rank for one in ranks]
    assert numbers == list(range(wanted)), f"{trained.label}: has the ranks {numbers}, expected 0 to {wanted - 1}"
    where = Counter(one.node.partition(".")[0] for one in ranks)
    # Who asked for no machine by name gets one, whatever that calls itself.
    expected = dict.fromkeys(request.on or list(where)[:1], request.per_node)
    assert where == expected, f"{trained.label}: processes ran on {dict(where)}, expected {expected}"
    for one in ranks:
        assert one.backend == backend, f"{one.node}: rank {one.rank} talks over {one.backend!r}, expected {backend!r}"
    gpus = [one.gpu for one in ranks if one.gpu]
    assert len(set(gpus)) == len(gpus), f"{trained.label}: processes share a GPU: {', '.join(gpus)}"
    return ranks


def same_parameters(trained: Trained, ranks: Sequence[Rank]) -> None:
    """After each epoch all processes have the same parameters bit by bit; each epoch changes them."""
    first = ranks[0]
    for one in ranks:
        assert len(one.parameters) == len(first.parameters) > 0, (
            f"{one.node}: rank {one.rank} tells of {len(one.parameters)} epochs, rank 0 of {len(first.parameters)}"
        )
        for epoch, (mine, its) in enumerate(zip(one.parameters, first.parameters, strict=True), 1):
            assert mine == its, (
                f"{one.node}: rank {one.rank} has the parameters {mine[:12]}… after epoch {epoch}, rank 0 on "
                f"{first.node} has {its[:12]}…; expected the same on all"
            )
    kinds = {first.initial, *first.parameters}
    assert len(kinds) == 1 + len(first.parameters), f"{trained.label}: an epoch changed nothing"
    saved = trained.metrics().parameters
    assert saved == first.parameters[-1], (
        f"{trained.label}: {saved[:12]}… was saved, the processes ended with {first.parameters[-1][:12]}…"
    )


def whole_epochs(trained: Trained, ranks: Sequence[Rank]) -> None:
    """In each epoch the processes are fed each sample once between them, as many each, in another order each time."""
    total = trained.metrics().samples
    epochs = {len(one.samples) for one in ranks}
    assert len(epochs) == 1, f"{trained.label}: ranks tell of {sorted(epochs)} epochs, expected as many each"
    assert epochs != {0}, f"{trained.label}: ranks tell of no epoch"
    for epoch in range(epochs.pop()):
        parts = [one.samples[epoch] for one in ranks]
        seen = Counter(sample for part in parts for sample in part)
        for one, part in zip(ranks, parts, strict=True):
            where = f"{one.node}: rank {one.rank} of job {trained.ended.id}"
            assert len(part) == len(parts[0]) > 0, (
                f"{where} was fed {len(part)} samples in epoch {epoch + 1}, rank 0 {len(parts[0])}; expected as many"
            )
            twice = [sample for sample in part if seen[sample] > 1]
            assert not twice, f"{where} was fed sample {twice[0]} in epoch {epoch + 1}, and it was fed twice"
        missing = sorted(set(range(total)) - seen.keys())
        assert not missing, (
            f"{trained.label}: nobody was fed sample {missing[0]} in epoch {epoch + 1} ({len(missing)} of {total})"
        )
    for one in ranks:
        assert len(set(one.samples)) == len(one.samples), (
            f"{one.node}: rank {one.rank} of job {trained.ended.id} was fed the same order in two epochs"
        )
