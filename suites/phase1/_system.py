"""What is declared of the machines' operating system, and how a machine differs from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.models import Versions
from pytest_ai_how.image.needed import TREE_IMAGE, disk_image


def profile(config: ClusterConfig, driver: str) -> tuple[str, ...]:
    """The packages that every machine has, by the roles of the image that ``driver`` boots, or as the YAML claims."""
    if driver == "ssh":
        return config.claims.packages
    definition = Source.shipped().define(disk_image(config) if driver == "libvirt" else TREE_IMAGE)
    below = definition.of.packages if definition.of else ()
    return tuple(sorted({*below, *definition.packages}))


def kernel_demand(versions: Versions) -> str:
    """The kernel's series that is declared: that of the package with the kernel of virtual machines."""
    [series] = {one.series for name, one in versions.packages.items() if name.startswith("linux-image-") and one.series}
    return series


def too_old(kernel: str, lowest: str) -> bool:
    """Whether a release is below a series: numbers, not texts, so that 6.9 comes before 6.12.

    >>> too_old("6.9.7-amd64", "6.12"), too_old("6.12.48+deb13-cloud-amd64", "6.12")
    (True, False)
    """
    return _numbers(kernel)[:2] < _numbers(lowest)


def drifted(kernel: str, packages: Mapping[str, str], modules: Iterable[str]) -> str:
    """How the kernel that runs and the headers that are installed differ; empty when they fit.

    Debian names a kernel's headers after its release: ``linux-headers-6.12.48+deb13-amd64``. Packages without a number
    in their name only depend on others; those that end with ``-common`` are shared by flavours.
    """
    have = [
        name.removeprefix("linux-headers-")
        for name in packages
        if re.fullmatch(r"linux-headers-\d.*", name) and not re.search(r"-common(-rt)?$", name)
    ]
    if have and kernel not in have:
        return f"runs kernel {kernel}, and has headers of {', '.join(sorted(have))} only; expected those of {kernel}"
    built = sorted(modules)
    if built and not have:
        return f"DKMS builds {', '.join(built)}, and no kernel headers are installed; expected linux-headers-{kernel}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", text)
    if not found:
        raise ValueError(f"{text!r} is no kernel release")
    return int(found[1]), int(found[2])
