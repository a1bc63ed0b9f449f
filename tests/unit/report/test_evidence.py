from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_ai_how.report.evidence import Evidence, shorten
from pytest_ai_how.report.items import Attachment
from pytest_ai_how.shell import Result


def test_a_command_is_kept_with_its_machine_status_and_both_outputs() -> None:
    evidence = Evidence()
    evidence.result(Result(("srun", "hostname"), 1, "out\n", "err\n", 0.25, "node02"))
    kept = evidence.items[0]
    assert kept.name == "node02: srun hostname"
    assert kept.content == "node02$ srun hostname\nexit status 1 after 0.25 s\n--- stdout\nout\n--- stderr\nerr"
    assert evidence.samples == 1


def test_nothing_and_blanks_are_no_evidence() -> None:
    evidence = Evidence()
    assert evidence.samples == 0
    evidence.attach("empty", "")
    evidence.attach("blank", " \n\t")
    assert len(evidence.items) == 2
    assert evidence.samples == 0


def test_a_large_attachment_keeps_head_and_tail_and_says_so() -> None:
    evidence = Evidence(attachment_bytes=10)
    kept = evidence.attach("log", "abcdefgh" + "-" * 100 + "stuvwxyz")
    assert kept.content == "abcde\n… 106 of 116 bytes left out …\nvwxyz"
    assert kept.truncated_from == 116
    assert kept.size_note == "head and tail of 116 bytes"


def test_a_cut_inside_a_character_leaves_text() -> None:
    kept = Evidence(attachment_bytes=9).attach("log", "ä" * 50)
    assert kept.encoding == "utf-8"
    assert kept.content.startswith("ää\n…")


@pytest.mark.parametrize(("size", "cut"), [(9, False), (10, False), (11, True)])
def test_the_bound_itself_is_not_cut(size: int, cut: bool) -> None:
    assert (shorten(b"x" * size, 10) != b"x" * size) is cut


def test_past_the_bound_of_a_check_only_names_and_sizes_are_kept() -> None:
    evidence = Evidence(attachment_bytes=10, check_bytes=15)
    evidence.attach("a", "x" * 10)
    evidence.attach("b", "y" * 10)
    last = evidence.attach("c", "z" * 10)
    assert evidence.items[1].content == "yyy\n… 5 of 10 bytes left out …\nyy"
    assert last.content == "\n… 10 of 10 bytes left out …\n"
    assert last.truncated_from == 10


def test_binary_content_comes_back_as_it_was() -> None:
    data = b"\x89PNG\r\n\x1a\n\x00\xff"
    kept = Evidence().attach("picture", data, kind="image/png")
    assert kept.encoding == "base64"
    assert Attachment.model_validate_json(kept.model_dump_json()).data == data


def test_output_with_half_a_surrogate_can_be_written_down() -> None:
    assert Evidence().attach("log", "a\udc80b").content == "a?b"


def test_steps_nest_and_hold_what_was_attached_inside() -> None:
    evidence = Evidence()
    evidence.attach("before", "0")
    with evidence.step("outer"):
        evidence.attach("in outer", "1")
        with evidence.step("inner"):
            evidence.attach("in inner", "2")
    (outer,) = evidence.steps
    assert (outer.text, outer.ok, outer.attachments) == ("outer", True, (1,))
    assert (outer.steps[0].text, outer.steps[0].attachments) == ("inner", (2,))


def test_a_step_that_raises_is_marked_and_lets_the_error_through() -> None:
    evidence = Evidence()
    with pytest.raises(AssertionError, match="node02: no"), evidence.step("ask node02"):
        raise AssertionError("node02: no")
    assert [(step.text, step.ok) for step in evidence.steps] == [("ask node02", False)]


def test_several_threads_may_attach_at_once() -> None:
    evidence = Evidence()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: evidence.attach(str(n), f"content {n}"), range(200)))
    assert sorted(int(kept.name) for kept in evidence.items) == list(range(200))
    assert all(kept.content == f"content {kept.name}" for kept in evidence.items)
