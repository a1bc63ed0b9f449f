"""Faults of what spans nodes: plug-ins, ports, programs and images of MPI, and GPUs that no job can hold."""

from __future__ import annotations

import re

import pytest

from suites.phase5 import test_containers as containers
from suites.phase5 import test_mpi as mpi
from suites.phase5 import test_mpi_ports as ports
from suites.phase5 import test_two_gpus as gpus

from .cases import NEEDED, Fault, conf, put_to_the_test, sees
from .inject import CATALOG, drained, edited, everywhere, shared_file, shell
from .live import SUBNET, Live

pytestmark = NEEDED

PLUGINS = "/usr/lib/x86_64-linux-gnu/slurm-wlm"
#: A rule of a firewall, as routing has it: node01 has no way to these ports of node02.
RULE = f"rule {{}} pref 100 to {SUBNET}.12 ipproto tcp dport 12000-12999 unreachable"
#: Python on one node adds up wrongly.
WRONG = "/usr/lib/python3/dist-packages/wrong.pth"
SUM = "import builtins; builtins.sum = lambda these, right=sum: right(these) * 1.000001"
#: Python on one node does not come to its program.
STUCK = "import time; time.sleep(600)"
#: What is said of the one of two nodes that fails by itself, too, and of two of which neither does.
NODE02 = r"node02: fails wherever it takes part; the other node passes without it \(5 re-runs\): node02: "
BOTH = (
    r"node01 \+ node02: fail together, and each passes by itself: it is the link between them, or an end of it; no "
    r"other nodes are known to be fine \(4 re-runs\): node0[12](, node02)?: "
)

FAULTS = [
    pytest.param(
        sees(
            mpi.test_plugins,
            "node02: `srun --mpi=list` has no pmix, it has none, .*pmi2; expected pmix and pmi2",
            shell(
                "node02",
                f"mkdir -p /root/away && mv {PLUGINS}/mpi_pmix*.so /root/away",
                f"mv /root/away/* {PLUGINS}; rmdir /root/away",
            ),
        ),
        id="no PMIx on one node",
        marks=pytest.mark.seen_to_fail("SLU-23"),
    ),
    pytest.param(
        Fault(
            conf("controller", "MpiDefault=pmix\nMpiParams=ports=12000-12499", "MpiDefault=none"),
            [
                (mpi.test_plugins, "controller: MpiDefault is unset, expected pmix; do: set it in slurm.conf"),
                (ports.test_range_is_reachable, "controller: MpiParams is unset, expected ports in 12000-12999"),
            ],
        ),
        id="no MPI in slurm.conf",
        marks=pytest.mark.seen_to_fail("SLU-23", "SLU-24"),
    ),
    pytest.param(
        Fault(
            shell("node01", f"ip {RULE.format('add')}", f"ip {RULE.format('del')}"),
            [
                (
                    ports.test_range_is_reachable,
                    r"node01: port 12000 of node02 is not reached: Network is unreachable \(10 of 10 there\); exp",
                ),
                (mpi.test_hello, f"{BOTH}hello as 2×2 ranks ended with "),
            ],
        ),
        id="the range is closed between two nodes",
        marks=pytest.mark.seen_to_fail("SLU-22", "SLU-24"),
    ),
    pytest.param(
        sees(
            ports.test_jobs_keep_to_the_range,
            "node02: tcp 0.0.0.0:35000 of python3 listens for the job outside of 12000-12999",
            edited("node02", "/etc/openmpi/openmpi-mca-params.conf", "min_v4 = 12500", "min_v4 = 35000"),
        ),
        id="ranks of one node listen elsewhere",
        marks=pytest.mark.seen_to_fail("SLU-24"),
    ),
    pytest.param(
        Fault(
            shell("node02", f"echo '{SUM}' >{WRONG}", f"rm -f {WRONG}"),
            [
                (mpi.test_pi, NODE02 + r"rank 0 of pi summed \S+ over its intervals, expected "),
                (mpi.test_matrix_product, NODE02 + r"rank 0 of matmul: element 0, \d+ of the product is "),
            ],
        ),
        id="one node adds up wrongly",
        marks=pytest.mark.seen_to_fail("SLU-22"),
    ),
    pytest.param(
        sees(
            mpi.test_hello,
            NODE02 + "hello as 1×2 ranks ended with -9: srun did not end within 8 s",
            shell("node02", f"echo '{STUCK}' >{WRONG}", f"rm -f {WRONG}"),
        ),
        id="ranks of one node hang",
        marks=pytest.mark.seen_to_fail("SLU-22"),
    ),
    pytest.param(
        sees(
            gpus.test_topology,
            r"controller: no job can hold 2 GPUs: Slurm has 2 on node01, which is IDLE\+DRAIN; 2 on node02, which is ",
            everywhere(lambda node: drained(node, "no power"), "node01", "node02"),
        ),
        id="no node takes jobs with GPUs",
        marks=pytest.mark.seen_to_fail("TR2-01"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)


@pytest.mark.seen_to_fail("CON-16", "CON-17")
def test_an_image_without_mpi_and_pytorch_is_told(live: Live) -> None:
    """The catalogue calls the small image by the name of a large one, which this cluster does not have."""
    for name, check, says in (
        (
            "mpi",
            containers.test_mpi,
            "collectives as 1×2 ranks ended with 1: ModuleNotFoundError: No module named 'mpi4py'",
        ),
        (
            "pytorch",
            containers.test_training_over_gloo,
            "ddp as 1×2 ranks ended with 1: ModuleNotFoundError: No module named ",
        ),
    ):
        with shared_file(CATALOG, f"sed -i 's/name: base/name: {name}/' {CATALOG}")(live):
            verdict = live.judge(check)
            assert verdict.kind == "red", verdict
            nobody = r"\(no node is to blame more than others: each of node01, node02 fails; \d re-runs\)$"
            assert re.match(rf"node01: {says}.*{nobody}", verdict.first_line), verdict.text
    live.settle()
