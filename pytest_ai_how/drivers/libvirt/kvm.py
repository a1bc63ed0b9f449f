"""Whether KVM boots machines on this host: found out by booting a kernel, which is all that proves it.

That ``/dev/kvm`` is there, opens and answers proves nothing: where this host is itself a virtual machine, guests may
die in their first instructions. The answer is kept for as long as this host runs, for each version of QEMU.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.lease.state import cache_home, private_folder

#: What the image's initramfs says when the kernel's command line has ``ai_how.probe``; it then powers off.
MARKER = "ai-how: this kernel runs"
DEVICE = Path("/dev/kvm")
_KEPT = "kvm/probe.json"
_EMULATOR = "qemu-system-x86_64"
# Seconds. A CPU is set up in 0.1; a kernel that KVM runs says the word after 1, one that is emulated after 5.
_SET_UP, _BOOT = 0.7, 15.0
_MACHINE = (
    *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
)
# QEMU dies with us, and if it can't, after a minute.
_CONTAINED = ("setpriv", "--pdeathsig", "KILL", "--", "timeout", "--signal=KILL", "60")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a machine: its console, what QEMU said, QEMU's exit status (None: it was ended by us)."""

    console: str
    said: str
    status: int | None


def no_kvm(kernel: Callable[[], Path], device: Path = DEVICE, emulator: str = _EMULATOR) -> str:
    """Why KVM boots no machine here; empty when it does.

    ``kernel`` gives the folder with ``vmlinuz`` and ``initrd.cpio``; it is asked only where QEMU can set up a CPU with
    KVM, and nothing is kept from an earlier probe.
    """
    if why := cannot_open(device):
        return why
    key = _key(emulator)
    if (kept := _recall(key)) is not None:
        return kept
    why = judge_set_up(_run(emulator, ("-S",), lambda _: False, _SET_UP))
    if not why:
        folder = kernel()
        boot = ("-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.cpio"))
        options = (*boot, "-append", "console=ttyS0 panic=-1 quiet ai_how.probe")
        why = judge_boot(_run(emulator, options, _is_decided, _BOOT))
    _keep(key, why)
    return why


def cannot_open(device: Path) -> str:
    """Why the device can't be used by this account; empty when it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {device} (switched off in the firmware, or the module kvm is not loaded)"
    except PermissionError:
        return f"{device} is not this account's to open (it belongs to the group kvm)"
    except OSError as error:
        return f"{device} does not open: {error.strerror}"
    return ""


def judge_set_up(seen: Outcome) -> str:
    """Why QEMU ended before a machine ran; empty when it did not.

    QEMU 7.2 on a host whose KVM refuses a register (MSR)::

        qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69
        qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == …' failed.
    """
    if seen.status is None:
        return ""
    return f"/dev/kvm opens, but QEMU can't set up a CPU with it: {_reason(seen.said, seen.status)}"


def judge_boot(seen: Outcome) -> str:
    """Why a kernel did not come as far as the marker; empty when it did.

    QEMU 7.2 when KVM can't execute what the guest does; it then waits forever::

        KVM internal error. Suberror: 1
        extra data[0]: 0x0000000000000001
        emulation failure
        RAX=0000000001ad2b90 RBX=0000000004784b64 …
    """
    if MARKER in seen.console:
        return ""
    if _died(seen.said):
        found = [line for line in seen.said.splitlines() if _died(line)]
        return f"/dev/kvm opens, but a kernel dies in it: {', '.join(dict.fromkeys(found)).rstrip('.')}"
    if seen.status is not None:
        return f"/dev/kvm opens, but QEMU ended before a kernel ran: {_reason(seen.said, seen.status)}"
    lines = [line for line in seen.console.splitlines() if line.strip()]
    last = f"; the last it said was {lines[-1].strip()!r}" if lines else ", and said nothing"
    return f"/dev/kvm opens, but a kernel did not start within {_BOOT:g} s{last}"


def _is_decided(seen: Outcome) -> bool:
    return MARKER in seen.console or _died(seen.said)


def _died(said: str) -> bool:
    return re.search(r"KVM internal error|emulation failure|kvm run failed", said) is not None


def _reason(said: str, status: int) -> str:
    """The line that tells why: the first that QEMU calls an error, or the last."""
    lines = [line.partition(": ")[2] or line for line in said.splitlines() if line.strip() and "warning:" not in line]
    errors = [line for line in lines if "error" in line.lower() or "failed" in line.lower()] or lines[-1:]
    return errors[0].removeprefix("error: ") if errors else f"exit status {status}"


def _run(emulator: str, options: Sequence[str], decided: Callable[[Outcome], bool], within: float) -> Outcome:
    """Start a machine and watch it until QEMU ends, ``decided`` says so or the time is over; then it is ended."""
    with tempfile.TemporaryDirectory(prefix="ai-how-kvm-") as folder:
        console, log = Path(folder) / "console", Path(folder) / "log"
        console.touch()
        argv = [*_CONTAINED, emulator, *_MACHINE, "-serial", f"file:{console}", *options]
        with log.open("wb") as out:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def look(status: int | None) -> Outcome:
            return Outcome(console.read_text(errors="replace"), log.read_text(errors="replace"), status)

        try:
            with suppress(DeadlineExceeded):
                wait_for(
                    lambda: process.poll() is not None or decided(look(None)),
                    within=within,
                    what="decided",
                    at_most=0.1,
                )
            return look(process.poll())
        finally:
            # `timeout` passes it on to QEMU, and is gone when that is.
            process.terminate()
            process.wait()


def _key(emulator: str) -> dict[str, str]:
    """What an answer holds for: this boot of the host, and the program."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot": boot, "qemu": emulator_version(emulator)}


def emulator_version(emulator: str) -> str:
    """The first line of ``--version``: ``QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)``."""
    said = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0]


def _recall(key: dict[str, str]) -> str | None:
    try:
        kept = json.loads((cache_home() / _KEPT).read_text())
        return str(kept["why"]) if {name: kept[name] for name in key} == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(key: dict[str, str], why: str) -> None:
    place = cache_home() / _KEPT
    with tempfile.NamedTemporaryFile("w", dir=private_folder(place.parent), prefix=".kvm-", delete=False) as file:
        json.dump({**key, "why": why}, file)
    Path(file.name).replace(place)
