from __future__ import annotations

import threading
import time

import pytest

from pytest_ai_how.cluster import WORKERS, Cluster, Nodes
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import AiHowError, CommandError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport
from tests.fakes import fake_cluster


def cluster(answers: list[object], roles: tuple[str, ...] = ("controller", "compute")) -> Cluster:
    """A cluster whose nth node answers the command ``try`` with ``answers[n]``; the first node has the first role."""
    nodes = [
        {"name": f"node{number:02}", "roles": [roles[min(number, 1)]], "address": f"10.0.0.{number + 1}"}
        for number in range(len(answers))
    ]
    config = ClusterConfig.model_validate({"version": 1, "name": "test", "nodes": nodes})
    made = [
        Node(each, FakeTransport(each.name, {"try": answer}))  # type: ignore[dict-item]  # any answer
        for each, answer in zip(config.nodes, answers, strict=True)
    ]
    return Cluster(config, made)


BAD = Result((), 1, stderr="no space\n")


def test_what_it_is() -> None:
    made = cluster(["", "", ""])
    assert (made.name, len(made.nodes), made["node02"].address) == ("test", 3, "10.0.0.3")
    assert made.controller.name == "node00"
    assert made.on("compute").names == ("node01", "node02")
    assert made.all.names == ("node00", "node01", "node02")
    assert repr(made) == "<Cluster test: node00, node01, node02>"
    assert repr(made.on("compute")) == "<Nodes node01, node02>"
    assert made.all[1] is made["node01"]
    assert made.all[1:].names == ("node01", "node02")
    assert list(made.all) == list(made.nodes)


def test_an_unknown_node() -> None:
    with pytest.raises(AiHowError) as caught:
        cluster(["", ""])["node9"]
    assert str(caught.value) == "test: no node is called 'node9'\n  expected: one of node00, node01"


def test_no_node_with_a_role_is_never_a_pass() -> None:
    with pytest.raises(AiHowError) as caught:
        cluster(["", ""]).on("storage")
    assert str(caught.value) == (
        "test: no node has the role 'storage'\n"
        "  expected: one of the roles that nodes have: compute, controller\n"
        "  do: give a node the role 'storage' in the cluster's YAML"
    )


def test_no_set_of_nodes_is_empty() -> None:
    for make in (lambda: Nodes([]), lambda: cluster([""]).all[5:]):
        with pytest.raises(AiHowError, match="cluster: an empty set of nodes\n  expected: at least one node"):
            make()


def test_results_are_in_the_order_of_the_file_whoever_is_first() -> None:
    second_done = threading.Event()

    def slow(argv: tuple[str, ...]) -> str:
        assert second_done.wait(10)
        return "slow"

    def fast(argv: tuple[str, ...]) -> str:
        second_done.set()
        return "fast"

    results = cluster([slow, fast]).all.run("try", timeout=2, user="hpc")
    assert [(name, result.stdout) for name, result in results.items()] == [("node00", "slow"), ("node01", "fast")]


def test_the_first_line_names_the_node_that_failed() -> None:
    made = cluster(["fine", "fine", BAD])
    with pytest.raises(ExceptionGroup) as caught:
        made.all.run("try")
    assert caught.value.message == "node02: `try` exited with 1: no space (1 of 3 nodes failed)"
    (error,) = caught.value.exceptions
    assert isinstance(error, CommandError)
    assert error.result.node == "node02"
    assert [len(node.transport.calls) for node in made.nodes] == [1, 1, 1]  # type: ignore[attr-defined]  # fakes


def test_the_first_line_names_all_nodes_that_failed() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        cluster([BAD, "fine", BAD]).all.run("try")
    assert caught.value.message == "node00, node02: `try` exited with 1: no space (2 of 3 nodes failed)"
    assert [error.where for error in caught.value.exceptions] == ["node00", "node02"]  # type: ignore[union-attr]  # ours


def test_failures_that_are_wanted_are_results() -> None:
    results = cluster(["fine", BAD]).all.run("try", check=False)
    assert [result.returncode for result in results.values()] == [0, 1]


def test_an_error_that_names_no_node_gets_it_as_a_note() -> None:
    def judge(node: Node) -> str:
        assert node.name != "node01", "wrong\nsecond line"
        return node.address

    with pytest.raises(ExceptionGroup) as caught:
        cluster(["", ""]).all.map(judge)
    assert caught.value.message.startswith("node01: wrong")
    assert caught.value.message.endswith(" (1 of 2 nodes failed)")
    assert "\n" not in caught.value.message
    assert caught.value.exceptions[0].__notes__ == ["on node01"]
    assert cluster(["", ""]).on("compute").map(judge_address) == {"node01": "10.0.0.2"}


def judge_address(node: Node) -> str:
    return node.address


def test_an_error_without_text_is_named_by_its_kind() -> None:
    def fail(node: Node) -> None:
        raise KeyError

    with pytest.raises(ExceptionGroup, match=r"node00: KeyError \(1 of 1 nodes failed\)"):
        cluster([""]).all.map(fail)


def test_threads_are_many_but_bounded() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count(node: Node) -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.02)
        with lock:
            now -= 1

    cluster([""] * 80).all.map(count)
    assert 2 <= most <= WORKERS


def test_an_interrupt_does_not_wait_for_the_others() -> None:
    release = threading.Event()

    def one(node: Node) -> None:
        if node.name == "node00":
            raise KeyboardInterrupt
        assert release.wait(10)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cluster(["", ""]).all.map(one)
    assert time.monotonic() - started < 5
    release.set()


def test_close_reaches_every_node() -> None:
    made = cluster(["", ""])
    made.close()
    assert [node.transport.closed for node in made.nodes] == [True, True]  # type: ignore[attr-defined]  # fakes


def test_a_machine_that_does_not_start_by_itself_is_reached_by_name_only() -> None:
    config = load_config("local")
    nodes = (*config.nodes[:2], config.nodes[2].model_copy(update={"auto_start": False}))
    made = fake_cluster({"*": {"true": ""}}, config=config.model_copy(update={"nodes": nodes}))
    assert made.all.names == ("controller", "node01")
    assert made.on("compute").names == ("node01",)
    assert made["node02"].run("true").ok
