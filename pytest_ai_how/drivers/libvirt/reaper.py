"""Run a command and collect every process that is orphaned below it.

libvirt waits until the qemu that it asked for its capabilities is gone; its number stays where the machine's first
process collects orphans late, and each look then takes half a minute. As a child subreaper (prctl(2)) this process
inherits the orphans instead. Run as a script of its own: it must stay small and start fast.
"""

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run ``argv`` and return its exit status; SIGTERM and SIGINT are handed on to it."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print(f"reaper: prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 1
    child = os.posix_spawnp(argv[0], argv, os.environ)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    # The first argument is the mark by which the process is found.
    sys.exit(main(sys.argv[2:]))
