"""The arguments of ``pytest-ai-how``, and what every command shares: exit statuses, errors, interrupts."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any

_EPILOG = """exit status: 0 done; 1 failed, with the reason on standard error; 2 wrong usage; 130 interrupted.
`exec` and `ssh` exit with the (worst) status of what they ran."""
_REST = "the command and its arguments, behind --"

# command: the module and the function that run it, imported when it is asked for
_RUNNERS = MappingProxyType(
    {
        "up": "pytest_ai_how.cli.life:up",
        "down": "pytest_ai_how.cli.life:down",
        "reap": "pytest_ai_how.cli.life:reap",
        "status": "pytest_ai_how.cli.look:status",
        "ssh": "pytest_ai_how.cli.look:ssh",
        "exec": "pytest_ai_how.cli.look:execute",
        "inventory": "pytest_ai_how.cli.inventory:pci",
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Deliberate errors are text, never tracebacks."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(words).parse_args(words)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        # Else Python would try once more when it ends, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:
        from pytest_ai_how.errors import AiHowError

        if not isinstance(error, AiHowError):
            raise
        sys.stderr.write("\n".join([str(error), *getattr(error, "__notes__", ())]) + "\n")
        return 1
    else:
        return status
    finally:
        signal.signal(signal.SIGTERM, before)


def _nobody_reads() -> bool:
    """Whether the reader of our standard output is gone: poll(2) has POLLERR for a pipe without one."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


def run(args: argparse.Namespace) -> int:
    """Run a parsed command."""
    if args.command == "images":
        from pytest_ai_how.image import commands as images

        return images.run(args)
    if args.command == "cache":
        from pytest_ai_how.data import commands as data

        return data.run(args)
    if args.command in {"report", "compare"}:
        from pytest_ai_how.report import commands as reports

        return reports.run(args, args.command)
    module, _, name = _RUNNERS[args.command].partition(":")
    runner: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
    return runner(args)


def build_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser. Commands that declare their own arguments are imported only when ``words`` ask for them."""
    parser = argparse.ArgumentParser(
        prog="pytest-ai-how",
        description="Bring an AI cluster up, look inside, take it down; read reports. Checks are run by pytest.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_life(commands)
    _add_look(commands)
    _add_inventory(commands)
    for name, text in _DELEGATED.items():
        command = _add(commands, name, text)
        if words and words[0] == name:
            _declare(command, name)
    return parser


_DELEGATED = MappingProxyType(
    {
        "images": "list, build, verify and remove the images that machines boot",
        "cache": "list and download the data sets that training checks at full scale use",
        "report": "show the report of a run",
        "compare": "compare the reports of two runs",
    }
)


def _declare(command: argparse.ArgumentParser, name: str) -> None:
    if name == "images":
        from pytest_ai_how.image import commands as images

        images.add_arguments(command)
    elif name == "cache":
        from pytest_ai_how.data import commands as data

        data.add_arguments(command)
    else:
        from pytest_ai_how.report import commands as reports

        reports.add_arguments(command, "report" if name == "report" else "compare")


def _add_life(commands: Any) -> None:
    up = _add(commands, "up", "bring a cluster up and keep it; prints how to use it and how to take it down")
    _cluster(up)
    down = _add(commands, "down", "take a kept cluster down; nothing of it remains")
    _cluster(down)
    reap = _add(commands, "reap", "take down what runs left behind that were killed; kept clusters are not touched")
    reap.add_argument("--cluster", metavar="NAME", help="this cluster only, even if it was kept")
    reap.add_argument(
        "--force",
        metavar="NAME",
        nargs="?",
        const="",
        help="this cluster, though its record or journal can't be read: what carries its mark is found on this machine",
    )
    reap.add_argument("--dry-run", action="store_true", help="say what would be taken down, and touch nothing")


def _add_look(commands: Any) -> None:
    status = _add(commands, "status", "show the clusters that there are, and who owns them")
    status.add_argument("--cluster", metavar="NAME", help="this cluster only; exit status 1 when there is none")
    status.add_argument("--json", action="store_true", help="print JSON")
    ssh = _add(commands, "ssh", "open a shell on a node of a cluster that is up, or run a command there")
    _cluster(ssh)
    ssh.add_argument("node", metavar="NODE", help="the node's name")
    ssh.add_argument("argv", help=_REST, nargs="*", metavar="COMMAND")
    execute = _add(commands, "exec", "run a command on the nodes of a cluster that is up, side by side")
    _cluster(execute)
    execute.add_argument("--on", metavar="ROLE|NODE", help="only on this node, or the nodes with this role")
    execute.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    execute.add_argument("argv", help=_REST, nargs="+", metavar="COMMAND")


def _add_inventory(commands: Any) -> None:
    inventory = _add(commands, "inventory", "show what of this machine can be given to virtual machines")
    inventory.add_argument("what", choices=["pci"], help="pci: GPUs and what shares their cards and IOMMU groups")
    inventory.add_argument("--all", action="store_true", help="all PCI functions, not only what goes with GPUs")
    form = inventory.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--yaml", action="store_true", help="print the section `gpus` of a cluster's YAML for each card")


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    return command


def _cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cluster", default="local", metavar="NAME|FILE", help="a cluster's name or its YAML file (default: local)"
    )


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the signature of a signal handler
    raise KeyboardInterrupt
