"""xdist's loadgroup distribution, without losing a run to a worker that died."""

from __future__ import annotations

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController


class OrderedGroups(LoadGroupScheduling):  # type: ignore[misc]  # xdist's classes have no types for us
    """Groups in the order of the collection.

    xdist 3.8 runs the test that a worker died of again on the next one, and so on until no worker is left, and a
    replacement that gets the last test waits for another one for ever. Here that test has had its turn, and the rest of
    the dead worker's tests come next.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back a dead worker's tests and return the one that it died of, if any."""
        workload = self.assigned_work.pop(node)
        open_ones = [(unit, nodeid) for unit in workload.values() for nodeid, done in unit.items() if not done]
        if not open_ones:
            return None
        unit, died_of = open_ones[0]
        unit[died_of] = True
        for scope, unit in reversed(workload.items()):
            if not all(unit.values()):
                self.workqueue[scope] = unit
                self.workqueue.move_to_end(scope, last=False)
        for other in self.assigned_work:
            self._reschedule(other)
        return str(died_of)

    def schedule(self) -> None:
        """Hand out tests, to a replacement too; when none is left to hand out, let the workers finish."""
        super().schedule()
        for node in self.nodes:
            # A worker begins a test when it knows the next one, or that there is none.
            while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
                self._assign_work_unit(node)
        if not self.workqueue and self.collection is not None:
            for node in self.nodes:
                if not node.shutting_down:
                    node.shutdown()
