"""What is done once for all processes of a run, and judged by many checks: a job that trains, and what it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_ai_how.errors import StepBlocked, StepFailed
from pytest_ai_how.launch.protocol import Ended, JobFailed, Launcher, Task, done
from pytest_ai_how.lease.lease import Lease

_ENDED = "ended"


class Once:
    """What this run does once, by the steps of its cluster's lease.

    Who comes first does it while the others wait; all are told the same. What failed is tried by nobody again:
    :class:`AssertionError` where it was tried, :class:`~pytest_ai_how.errors.StepBlocked` with the cause wherever it
    is asked for again.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def told(self, name: str, action: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """What ``action`` returned, here or in another process of the run; ``name`` is a step's (``job-mnist``).

        Only what the cluster does wrong (:class:`JobFailed`, an assertion) is an :class:`AssertionError`; other errors
        are :class:`~pytest_ai_how.errors.StepFailed`, ours to cure. An action may itself ask for what is done once.
        """
        # Of this run alone, and not of machines that were made anew since.
        fingerprint = f"{self._lease.run_id} {self._lease.stamp('machines')}"
        try:
            return self._lease.ensure(name, fingerprint, lambda: dict(action()))
        except StepFailed as error:
            cause = error.__cause__
            if isinstance(cause, StepBlocked):  # what it builds on had failed before
                raise cause from error
            if isinstance(cause, JobFailed | AssertionError):
                raise AssertionError(str(cause)) from error
            raise

    def job(self, launcher: Launcher, make: Callable[[], Task], name: str, within: float = 0.0) -> Ended:
        """The end of the job ``name`` of this run, COMPLETED. ``make`` is called where it is started, if at all.

        ``within`` are seconds (default: the task's time limit and a minute).
        """
        told = self.told(f"job-{name}", lambda: {_ENDED: done(launcher, make(), within).to_json()})
        return Ended.from_json(told[_ENDED])
