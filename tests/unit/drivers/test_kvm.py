"""Whether KVM works is judged by what a machine did (samples: QEMU 7.2.22 on a host whose KVM boots nothing)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.drivers.libvirt import kvm
from pytest_ai_how.drivers.libvirt.kvm import MARKER, Outcome, judge_boot, judge_set_up
from pytest_ai_how.lease.state import cache_home

NO_MSR = """\
qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69
qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == x' failed.
"""
DIED = """\
qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000001
emulation failure
RAX=0000000001ad2b90 RBX=0000000004784b64 RCX=0000000001ad2b90 RDX=0000000000000005
"""
# stands for QEMU: says its version, and else does what the test wants
PROGRAM = """\
#!/bin/sh
[ "$1" = --version ] && { echo "QEMU emulator version 7.2.22"; exit; }
echo "$*" >>"$0.calls"
for word; do case $word in file:*) console=${word#file:} ;; esac; done
"""


def test_a_cpu_that_cannot_be_set_up_is_told_in_qemus_words() -> None:
    assert judge_set_up(Outcome("", NO_MSR, -6)) == (
        "/dev/kvm opens, but QEMU can't set up a CPU with it: failed to set MSR 0x10a to 0x69"
    )


def test_a_cpu_that_waits_was_set_up() -> None:
    assert judge_set_up(Outcome("", "qemu-system-x86_64: warning: slow", None)) == ""


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Outcome(f"{MARKER}\n", "", None), ""),
        (Outcome(f"[ 1.2] x\n{MARKER}\n[ 1.3] reboot: Power down\n", "", 0), ""),
        (
            Outcome("", DIED, None),
            "/dev/kvm opens, but a kernel dies in it: KVM internal error. Suberror: 1, emulation failure",
        ),
        (
            Outcome("", "qemu-system-x86_64: could not load kernel 'x': Bad file\n", 1),
            "/dev/kvm opens, but QEMU ended before a kernel ran: could not load kernel 'x': Bad file",
        ),
        (Outcome("", "", -9), "/dev/kvm opens, but QEMU ended before a kernel ran: exit status -9"),
        (Outcome("", "", None), "/dev/kvm opens, but a kernel did not start within 15 s, and said nothing"),
        (
            Outcome("Decompressing Linux...\n\n", "", None),
            "/dev/kvm opens, but a kernel did not start within 15 s; the last it said was 'Decompressing Linux...'",
        ),
    ],
)
def test_a_boot_is_judged_by_the_marker(seen: Outcome, why: str) -> None:
    assert judge_boot(seen) == why


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert kvm.cannot_open(tmp_path / "kvm").startswith(f"there is no {tmp_path}/kvm (switched off in the firmware")


def test_a_device_that_does_not_open_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "kvm")
    assert kvm.cannot_open(tmp_path / "kvm") == ""
    assert kvm.cannot_open(tmp_path) == f"{tmp_path} does not open: Is a directory"


Emulator = Callable[[str], str]


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "device").touch()

    def make(does: str) -> str:
        path = tmp_path / "qemu"
        path.write_text(PROGRAM + does)
        path.chmod(0o755)
        return str(path)

    return make


def probe(tmp_path: Path, emulator: str) -> str:
    return kvm.no_kvm(lambda: tmp_path, tmp_path / "device", emulator)


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "qemu.calls").read_text().splitlines()


def test_an_answer_is_kept_for_this_boot_and_this_qemu(tmp_path: Path, emulator: Emulator) -> None:
    path = emulator('echo "qemu: error: failed to set MSR 0x10a" >&2; exit 1\n')
    first = probe(tmp_path, path)
    assert first.endswith("can't set up a CPU with it: failed to set MSR 0x10a")
    assert (probe(tmp_path, path), len(calls(tmp_path))) == (first, 1)
    kept = cache_home() / "kvm/probe.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "boot": "another"}))
    assert (probe(tmp_path, path), len(calls(tmp_path))) == (first, 2)
    kept.write_text("{")
    assert (probe(tmp_path, path), len(calls(tmp_path))) == (first, 3)


def test_a_kernel_that_runs_is_an_answer_too(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "_SET_UP", 0.3)
    path = emulator(f'case "$*" in *-kernel*) echo "{MARKER}" >"$console" ;; esac; sleep 30\n')
    assert probe(tmp_path, path) == ""
    set_up, boot = calls(tmp_path)
    assert set_up.endswith(" -S")
    assert f"-kernel {tmp_path}/vmlinuz -initrd {tmp_path}/initrd.cpio -append" in boot
    assert "ai_how.probe" in boot
    assert (probe(tmp_path, path), len(calls(tmp_path))) == ("", 2)
