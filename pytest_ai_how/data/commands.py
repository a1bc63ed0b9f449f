"""``pytest-ai-how cache list | fill``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_ai_how.data.cache import Cache
from pytest_ai_how.data.manifest import DataSet, File, data_set, load_manifest
from pytest_ai_how.progress import progress_on


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``pytest-ai-how cache``."""
    parser.add_argument("action", nargs="?", choices=("list", "fill"), default="list", help="default: list")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (default: all that can be downloaded)")
    parser.add_argument(
        "--manifest", metavar="FILE", type=Path, help="data sets of your own, in the form of configs/data/sets.yaml"
    )


def run(args: Namespace) -> int:
    """Do what ``args`` say, and print what is there; 0. Raises AiHowError."""
    manifest = load_manifest(args.manifest)
    wanted = {name: data_set(manifest, name) for name in args.names}
    wanted = wanted or {name: data for name, data in manifest.items() if data.downloads}
    cache = Cache()
    if args.action == "fill":
        with progress_on() as progress:
            for name, data in wanted.items():
                cache.fill(name, data, progress)
    print("\n".join(_listed(cache, wanted)))
    return 0


def _listed(cache: Cache, wanted: Mapping[str, DataSet]) -> Iterator[str]:
    for name, data in wanted.items():
        faults, files = cache.faults(name, data), cache.known(name, data).files
        size = sum(file.bytes for file in files) / 2**20
        told = f"{size:9.1f} MiB" if all(file.bytes for file in files) else " size unknown"
        held = "in the image that trains" if not data.downloads else "not whole" if faults else "whole"
        yield f"{name:<14} {held:<10} {told}  {data.title}"
        yield from (f"  {file.name}: {_by_its_origin(file)}" for file in files if file.declared)
        yield from (f"  {fault}" for fault in faults)


def _by_its_origin(file: File) -> str:
    """How much the digest of a file that is declared is worth."""
    if not file.sha256:
        return "the manifest has no digest of it; the first fill takes what its origin declares"
    return f"SHA-256 {file.sha256}, as its origin declared it at the first fill"
