"""The checks of BeeGFS's clients go red on machines that lack port, module or mount, and name each."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.phase3 import test_beegfs_client as client
from tests.fakes import once_all_ask
from tests.unit.services.beegfs.sample import KERNEL, MOUNTED, beegfs, beegfs_config, is_module, is_mount, module, well

from .phase3_fakes import LISTENING, Rules, says


@pytest.mark.seen_to_fail("STO-05")
def test_a_client_without_its_port(evidence: Evidence) -> None:
    silent: Rules = [(("ss",), LISTENING.replace(":8004", ":8014"))]
    client.test_client_port(beegfs({"*": [(("ss",), LISTENING)]}), evidence)
    with pytest.raises(AssertionError, match=r"^node01: nothing listens on udp 8004; expected BeeGFS's client"):
        client.test_client_port(beegfs({"*": [(("ss",), LISTENING)], "node01": silent}), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: nothing listens on .*\n *node02: nothing listens on udp 8004; exp"
    ):
        client.test_client_port(beegfs({"*": [(("ss",), LISTENING)], "node01": silent, "node02": silent}), evidence)


def test_clients_are_looked_at_all_at_once(evidence: Evidence) -> None:
    count = len(beegfs_config().nodes)
    listening = once_all_ask(count, LISTENING)
    installed = once_all_ask(count, f"beegfs/7.4.7, {KERNEL}, x86_64: installed\n")
    client.test_client_port(beegfs({"*": [(("ss",), listening)]}), evidence)
    client.test_dkms(beegfs({"*": [("uname -r", f"{KERNEL}\n"), (("dkms",), installed)]}), evidence)


@pytest.mark.seen_to_fail("STO-06")
def test_a_module_that_dkms_has_not_installed(evidence: Evidence) -> None:
    def check(said: str | Result) -> None:
        right: Rules = [("uname -r", f"{KERNEL}\n"), (("dkms",), f"beegfs/7.4.7, {KERNEL}, x86_64: installed\n")]
        client.test_dkms(beegfs({"*": right, "node02": [("uname -r", f"{KERNEL}\n"), (("dkms",), said)]}), evidence)

    check(f"beegfs/7.4.7, {KERNEL}, x86_64: installed\n")
    with pytest.raises(
        AssertionError, match=rf"^node02: dkms status says 'beegfs/7\.4\.7: added' for the .* {KERNEL[:6]}"
    ):
        check("beegfs/7.4.7: added\n")
    with pytest.raises(AssertionError, match=r"^node02: dkms status says 'nothing' for the running kernel"):
        check("")
    with pytest.raises(AssertionError, match=r"^node02: dkms status says 'sh: dkms: not found'"):
        check(Result((), 127, stderr="sh: dkms: not found\n"))
    differs = f"beegfs/7.4.7, {KERNEL}, x86_64: installed (WARNING! Diff between built and installed module!)\n"
    with pytest.raises(AssertionError, match=r"^node02: dkms status says .*WARNING"):
        check(differs)
    rules: Rules = [("uname -r", f"{KERNEL}\n"), (("dkms",), "")]
    with pytest.raises(
        AssertionError, match=r"^node01: dkms status says 'nothing' .*\n *node02: .* 'nothing' for the runn"
    ):
        client.test_dkms(
            beegfs({"controller": [rules[0], (("dkms",), "x: installed\n")], "node01": rules, "node02": rules}),
            evidence,
        )


@pytest.mark.seen_to_fail("STO-07", "STO-08")
def test_a_module_that_is_not_loaded_or_another(evidence: Evidence) -> None:
    def check(**changes: str) -> None:
        made = beegfs({"node02": well((is_module, module(**changes)))})
        client.test_vermagic(made, evidence)
        client.test_module_loaded(made, evidence)

    check()
    with pytest.raises(
        AssertionError, match=r"^node02: the module /lib/\S+/beegfs\.ko\.xz is not loaded; expected it live"
    ):
        check(state="")
    with pytest.raises(
        AssertionError, match=r"^node02: the module that is loaded is not /lib/\S+/beegfs\.ko\.xz; reboot"
    ):
        check(loaded="OTHER")
    with pytest.raises(
        AssertionError, match=r"^node02: /lib/\S+ was built for kernel 6\.1\.0, the running one is .*equal rel"
    ):
        check(vermagic="6.1.0 SMP")
    missing = beegfs({"node01": well((is_module, module(filename="", vermagic="", built="")))})
    with pytest.raises(AssertionError, match=rf"^node01: no BeeGFS module for the running kernel {KERNEL[:6]}"):
        client.test_module_loaded(missing, evidence)


FSTAB = "beegfs cfgFile=/etc/beegfs/beegfs-client.conf,_netdev,nosuid\n"


@pytest.mark.seen_to_fail("STO-09")
def test_a_client_without_its_mount(evidence: Evidence) -> None:
    def check(mounted: str | Result = MOUNTED, fstab: str | Result = FSTAB) -> None:
        right: Rules = [(says("--fstab"), FSTAB), (is_mount, MOUNTED)]
        made = beegfs({"*": right, "node02": [(says("--fstab"), fstab), (is_mount, mounted)]})
        client.test_mount(made, evidence)

    check()
    with pytest.raises(AssertionError, match=r"^node02: nothing is mounted at /mnt/beegfs; expected beegfs"):
        check(Result((), 1))
    with pytest.raises(AssertionError, match=r"^node02: /mnt/beegfs is a ext4 file system, expected beegfs"):
        check(MOUNTED.replace('"beegfs"', '"ext4"'))
    with pytest.raises(AssertionError, match=r"^node02: /mnt/beegfs is mounted ro,.*, expected rw"):
        check(MOUNTED.replace("rw,", "ro,"))
    with pytest.raises(
        AssertionError, match=r"^node02: /etc/fstab has 'nothing' for /mnt/beegfs; expected type beegfs"
    ):
        check(fstab=Result((), 1))
    with pytest.raises(
        AssertionError, match=r"^node02: /etc/fstab mounts /mnt/beegfs with cfgFile=\S+; expected _netdev"
    ):
        check(fstab="beegfs cfgFile=/etc/beegfs/beegfs-client.conf\n")
