"""Undoing claims on devices of this host: a claim is its line in the journal, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Claims:
    """Undoes ``pci-claim`` entries: ``address``, ``cluster`` and ``machine``.

    Entries are undone last made first, so the machine that a claim was made for is gone by then.
    """

    kind = "pci-claim"

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Nothing holds the device any more once the machine is gone."""

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:  # noqa: ARG002  the Undo protocol's signature
        """Nothing: the line itself is struck by whoever asks."""
        return ()
