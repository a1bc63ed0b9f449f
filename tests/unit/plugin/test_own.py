"""What the plugin answers by itself."""

from __future__ import annotations

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.skin import own


@pytest.mark.parametrize(
    ("cluster", "driver", "daemon", "why"),
    [
        ("local", "nspawn", "", ""),
        ("vm", "libvirt", "", ""),
        ("vm", "libvirt", "qemu:///system", "the libvirt daemon of this host serves directories from memory"),
        ("beegfs", "libvirt", "qemu:///system", ""),
        ("local", "ssh", "", "it is not known what lies below storage.kind host-directory of driver ssh"),
    ],
)
def test_where_the_medium_below_can_be_measured(
    monkeypatch: pytest.MonkeyPatch, cluster: str, driver: str, daemon: str, why: str
) -> None:
    monkeypatch.setattr(own, "running_daemon", lambda: daemon)
    monkeypatch.setattr(own.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert own.why_no_raw_medium(load_config(cluster), driver).startswith(why)
    assert bool(own.why_no_raw_medium(load_config(cluster), driver)) == bool(why)
    monkeypatch.setattr(own.shutil, "which", lambda name: None)
    assert "fio is not installed" in own.why_no_raw_medium(load_config("local"), "nspawn")
