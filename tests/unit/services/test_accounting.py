import pytest

from pytest_ai_how.errors import CommandError
from pytest_ai_how.services.accounting import Accounting, Association, parse_associations
from pytest_ai_how.shell import Result
from tests.fakes import fake_cluster

# sacctmgr -nP show associations format=cluster,account,user; Slurm 24.11.5
KNOWN = "local|root|\nlocal|root|root\nlocal|default|\nlocal|default|hpc\n"
# Slurm 24.11.5 with slurmdbd stopped
REFUSED = Result(
    (),
    1,
    stderr=(
        "sacctmgr: error: _open_persist_conn: failed to open persistent connection to host:controller:6819: "
        "Connection refused\nsacctmgr: error: Sending PersistInit msg: Connection refused\n"
    ),
)


def accounting(associations: str | Result, port: str = "6817\n") -> Accounting:
    answers = {"sacctmgr -nP show associations": associations, "sacctmgr -nP show cluster local": port}
    return Accounting(fake_cluster({"controller": answers}))


def test_ready_accounting_has_no_fault() -> None:
    assert accounting(KNOWN).faults() == ()
    assert Association("local", "default", "hpc") in accounting(KNOWN).associations()


@pytest.mark.parametrize(
    ("associations", "port", "fault"),
    [
        (REFUSED, "6817\n", "sacctmgr exited with 1: sacctmgr: error: Sending PersistInit msg: Connection refused"),
        ("", "6817\n", "slurmdbd does not know cluster 'local'"),
        ("other|default|hpc\n", "6817\n", "slurmdbd does not know cluster 'local'"),
        ("local|root|root\n", "6817\n", "slurmdbd has no user 'hpc' in account 'default' of 'local'"),
        (KNOWN, "0\n", "slurmctld of cluster 'local' is not connected to slurmdbd"),
        (KNOWN, "\n", "slurmctld of cluster 'local' is not connected to slurmdbd"),
    ],
)
def test_what_is_missing_is_named(associations: str | Result, port: str, fault: str) -> None:
    assert accounting(associations, port).faults() == (f"controller: {fault}",)


def test_asking_a_dead_slurmdbd_raises() -> None:
    with pytest.raises(CommandError, match="controller: `sacctmgr -nP show associations"):
        accounting(REFUSED).associations()


def test_line_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not an association of sacctmgr: 'local\|default'"):
        parse_associations("local|default\n")
