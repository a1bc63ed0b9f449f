"""GPUs of this host, given to systemd-nspawn machines: the devices, and the driver's programs and libraries.

The machines share the host's kernel, so NVIDIA's module is the host's, and what speaks to it must be of the module's
own version: it is copied from the host into a layer that lies between the image and the machines' own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.drivers.machines.render import own_numbers
from pytest_ai_how.errors import ProvisionError

#: The devices of NVIDIA's driver that belong to no single GPU, as nvidia-modprobe(1) makes them.
_CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
#: What computing takes of the driver: CUDA's own library, NVML, and what these load. Not OpenGL, Vulkan or video.
_LIBRARIES = re.compile(r"lib(cuda|nvidia-(ml|ptxjitcompiler|nvvm\d*|gpucomp|cfg))\.so\.\d+$")
_PROGRAMS = ("nvidia-smi",)
_INTO = "usr/lib/x86_64-linux-gnu"


def numbers(config: ClusterConfig, node: NodeConfig) -> range:
    """The numbers of this host's GPUs that a machine has: in the order of the file, each GPU in one machine.

    >>> from pytest_ai_how.config.loader import load_config
    >>> local = load_config("local", environ={})
    >>> [list(numbers(local, node)) for node in local.nodes]
    [[], [0, 1], [0, 1]]
    """
    if not node.gpus or node.gpus.kind != "nvidia":
        return own_numbers(node)
    names = [each.name for each in config.nodes]
    before = config.nodes[: names.index(node.name)]
    first = sum(each.gpus.count for each in before if each.gpus and each.gpus.kind == "nvidia")
    return range(first, first + node.gpus.count)


def devices(config: ClusterConfig, node: NodeConfig, dev: Path = Path("/dev")) -> list[Path]:
    """The device files that the machine gets; none where its GPUs are simulated."""
    if not node.gpus or node.gpus.kind != "nvidia":
        return []
    control = (dev / name for name in _CONTROL)
    return [dev / f"nvidia{number}" for number in numbers(config, node)] + [one for one in control if one.exists()]


def check_gpus(config: ClusterConfig, dev: Path = Path("/dev")) -> None:
    """Refuse GPUs that this host does not have, or has no driver for. Raises :class:`ProvisionError` by machine."""
    here = sorted(path.name for path in dev.glob("nvidia[0-9]*"))
    for node in config.nodes:
        missing = [path for path in devices(config, node, dev) if not path.exists()]
        if missing:
            seen = f"{missing[0]} is not there; this host has {', '.join(here) or 'no GPU with a driver of NVIDIA'}"
            cure = "lower gpus.count, load the driver (nvidia-modprobe -u -c 0), or use kind simulated"
            raise ProvisionError(node.name, seen, expected="a GPU of this host for each in gpus.count", cure=cure)
        if devices(config, node, dev):
            list(_programs())


def layer(folder: Path) -> None:
    """Copy what computes on the host's GPUs into ``folder``, as the tree that a machine's root begins with.

    Raises :class:`ProvisionError` when the driver has a device but no library here.
    """
    programs, libraries = list(_programs()), list(_libraries(_cache()))
    if not any(name.startswith("libcuda.so") for name, _ in libraries):
        raise ProvisionError(
            "localhost", "`ldconfig -p` lists no libcuda.so", expected="the library of NVIDIA's driver",
            cure="apt-get install libcuda1, in the version of the kernel's module",
        )  # fmt: skip
    for name, source in libraries:
        _copy(source, folder / _INTO / source.name)
        if name != source.name:
            (folder / _INTO / name).symlink_to(source.name)
    for source in programs:
        _copy(source, folder / "usr/bin" / source.name)


def _programs() -> Iterator[Path]:
    for program in _PROGRAMS:
        found = shutil.which(program)
        if not found:
            cure = "install it in the version of the kernel's module (Debian: nvidia-smi)"
            raise ProvisionError("localhost", f"no program {program}", expected=f"{program} in PATH", cure=cure)
        yield Path(found).resolve()


def _cache() -> str:
    argv = ["ldconfig", "-p"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": "/sbin:/usr/sbin"}).stdout


def _libraries(cache: str) -> Iterator[tuple[str, Path]]:
    r"""The driver's libraries in what ``ldconfig -p`` says (glibc 2.36), each by its name and its file.

    ``\tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1``; the first of a name is what is loaded.
    """
    seen = set()
    for line in cache.splitlines():
        found = re.match(r"\s+(\S+) \(libc6,x86-64[^)]*\) => (\S+)$", line)
        if found and _LIBRARIES.fullmatch(found[1]) and found[1] not in seen:
            seen.add(found[1])
            yield found[1], Path(found[2]).resolve()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
