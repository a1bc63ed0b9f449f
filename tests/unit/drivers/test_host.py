import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.drivers.nspawn.host import check_config, check_machine_id, check_room, check_tools, userns_absent
from pytest_ai_how.errors import HostError, ProvisionError

from .sample import config, with_node

# /proc/meminfo of Linux 6.1 (proc(5)), shortened
MEMINFO = "MemTotal:       24684096 kB\nMemFree:          314572 kB\nMemAvailable:    {kib} kB\nBuffers:     1024 kB\n"
GIB = 2**30


def test_not_root_is_refused_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="localhost: not root\n  expected: root, to make machines with systemd-nspawn"):
        check_tools()


@pytest.mark.parametrize(
    ("program", "package"), [("systemd-nspawn", "systemd-container"), ("ip", "iproute2"), ("setsid", "util-linux")]
)
def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, program: str, package: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else f"/usr/bin/{name}")
    with pytest.raises(HostError) as caught:
        check_tools()
    assert caught.value.seen == f"no program {program}"
    assert caught.value.cure == f"apt-get install --no-install-recommends {package}"


def test_sample_configuration_can_be_made() -> None:
    assert check_config(config()) == config().network


def test_a_host_without_a_machine_id_is_refused(tmp_path: Path) -> None:
    for text in ("", "uninitialized\n"):
        (tmp_path / "machine-id").write_text(text)
        with pytest.raises(
            HostError, match=r"machine-id: holds no machine ID\n  expected: the 32 hex.*\n  do: systemd-m"
        ):
            check_machine_id(tmp_path / "machine-id")
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    check_machine_id(tmp_path / "machine-id")


def test_missing_network_is_refused() -> None:
    with pytest.raises(ProvisionError, match="lab: no network"):
        check_config(config(network=None))


@pytest.mark.parametrize("kind", ["beegfs", "existing"])
def test_storage_that_needs_a_kernel_of_its_own_is_refused(kind: str) -> None:
    with pytest.raises(ProvisionError, match=rf"lab: storage.kind {kind} can't be made here"):
        check_config(config(storage={"kind": kind}))


CARD = {"address": "0000:01:00.0", "vendor": "10de", "device": "2805"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpus": 1024}, "node01: cpus: 1024, but this machine has"),
        (
            {"gpus": {"kind": "passthrough", "count": 1, "devices": [CARD]}},
            "node01: gpus of kind passthrough can't be given",
        ),
        ({"address": "10.98.0.11"}, r"node01: address 10\.98\.0\.11 is outside 10\.99\.0\.0/24"),
        ({"address": "10.99.0.1"}, r"node01: address 10\.99\.0\.1 is outside 10\.99\.0\.0/24 or the bridge's own"),
    ],
)
def test_machine_that_cannot_be_made_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ProvisionError, match=said):
        check_config(with_node(1, **changes))


def test_names_too_long_for_a_machine_are_refused() -> None:
    long = "a" * 32
    with pytest.raises(ProvisionError, match="cluster and machine name have 64 characters together\n  expected: 57 at"):
        check_config(config(name=long, nodes=[{"name": long, "roles": ["controller"], "address": "10.99.0.10"}]))


def test_half_of_the_nodes_memory_is_enough() -> None:
    check_room(config(), Path("/state"), MEMINFO.format(kib=2036 * 1024), disk_free=4 * GIB)


def test_too_little_memory_is_refused_with_numbers() -> None:
    with pytest.raises(HostError) as caught:
        check_room(config(), Path("/state"), MEMINFO.format(kib=2035 * 1024), disk_free=4 * GIB)
    assert caught.value.seen == "2035 MiB of memory available"
    assert caught.value.expected == "2036 MiB, half of the 4072 MiB that the machines of 'lab' may use"


def test_too_little_disk_is_refused_with_numbers() -> None:
    with pytest.raises(HostError, match=r"/state: 2047 MiB of disk free\n  expected: 2048 MiB"):
        check_room(config(), Path("/state"), MEMINFO.format(kib=24000000), disk_free=2 * GIB - 1)


@pytest.mark.parametrize(
    ("switch", "value", "said"),
    [
        ("user/max_user_namespaces", "0\n", "user.max_user_namespaces is 0, wants a number above 0"),
        ("kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone is 0, wants 1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1\n", "apparmor_restrict_unprivileged_userns is 1, wants 0"),
    ],
)
def test_host_without_user_namespaces_has_no_apptainer(tmp_path: Path, switch: str, value: str, said: str) -> None:
    path = tmp_path / "sys" / switch
    path.parent.mkdir(parents=True)
    path.write_text(value)
    assert userns_absent(tmp_path)["apptainer"].endswith(said)
    path.write_text("1\n" if value == "0\n" else "0\n")
    assert userns_absent(tmp_path) == {}
