"""The kinds of values that the configuration is made of, and what each asks for in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


def _pattern(kind: object) -> str:
    (field,) = get_args(kind)[1:]
    return next(str(part.pattern) for part in field.metadata if getattr(part, "pattern", None))


# RFC 1123 label; also what systemd-nspawn, libvirt and Slurm accept as a host name.
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", max_length=32)]
# A Linux interface name holds 15 characters (IFNAMSIZ - 1).
BridgeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,14}$")]
# No component is "." or "..": a path names one place.
AbsolutePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+$", max_length=255)]
UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
SlurmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
# Slurm's own time formats: minutes, [days-]hours:minutes:seconds, or UNLIMITED.
SlurmTime = Annotated[str, Field(pattern=r"^([0-9]{1,8}|([0-9]{1,5}-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}|UNLIMITED)$")]
# A file on this machine, ~ allowed.
HostFile = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1024)]
# A CPU model as libvirt names it (`virsh cpu-models x86_64`), or one of its modes.
CpuModel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}$")]
#: What ``cpu_model`` may be beside a model: modes of libvirt's (formatdomain, "CPU model and topology").
CPU_MODES = ("host-passthrough", "host-model", "maximum")
#: Drivers of machines that exist already, and are not ours.
EXISTING = ("ssh", "host")
# domain:bus:slot.function as the kernel writes it in /sys/bus/pci/devices: a slot has 5 bits, a function 3.
PciAddress = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")]
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]
# struct virtio_fs_config holds 36 bytes; the characters are those that /etc/fstab and systemd take unescaped.
VirtiofsTag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,35}$")]
FileMode = Annotated[str, Field(pattern=r"^0[0-7]{3}$")]
# sources.list(5) without options: [trusted=yes] would accept packages that nobody signed.
AptLine = Annotated[str, Field(pattern=r"^deb https?://[^\s\[\]]+ [^\s\[\]]+( [^\s\[\]/]+)*$", max_length=1024)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s\[\]@]+$", max_length=1024)]
AptWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,127}$")]
# Debian Policy 5.6.1
DebianPackage = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$", max_length=128)]
# RFC 1123, labels of at most 63 characters
DnsName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", max_length=253)
]
PortName = Annotated[str, Field(pattern=r"^(tcp|udp)/[1-9][0-9]{0,4}$")]
# Prometheus's durations, with one unit.
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(ms|[smhdwy])$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Role = Literal["controller", "compute", "storage"]

# What a pattern asks for, in words; errors say this instead of the pattern.
FORMS: Mapping[str, str] = MappingProxyType(
    {
        _pattern(kind): words
        for kind, words in (
            (Name, "lower-case letters, digits and inner hyphens, a letter first, at most 32 characters"),
            (BridgeName, "lower-case letters, digits and hyphens, a letter first, at most 15 characters"),
            (AbsolutePath, "an absolute path of letters, digits and ._@+-, no component starting with a dot"),
            (UserName, "lower-case letters, digits, _ and -, a letter or _ first, at most 31 characters"),
            (SlurmName, "letters, digits and _.-, a letter or digit first, at most 63 characters"),
            (SlurmTime, "minutes, [days-]hours:minutes:seconds, or UNLIMITED"),
            (HostFile, "a file name without control characters"),
            (CpuModel, "a CPU model as libvirt names it, e.g. host-passthrough, host-model or qemu64"),
            (PciAddress, "a PCI address in lower-case hex with its domain, e.g. 0000:01:00.0"),
            (PciId, "four lower-case hex digits, e.g. 10de"),
            (VirtiofsTag, "letters, digits and ._-, a letter or digit first, at most 36 characters"),
            (FileMode, "a file mode of four octal digits, e.g. 0755"),
            (AptLine, "'deb URL SUITE COMPONENT…' without options in brackets; the key is given beside it"),
            (Url, "a URL that starts with http:// or https:// and holds no password"),
            (DebianPackage, "a Debian package's name: lower-case letters, digits and +.-"),
            (DnsName, "a host name of lower-case letters, digits, hyphens and dots"),
            (PortName, "a protocol and a port, such as tcp/9100 or udp/68"),
            (AptWord, "a word of letters, digits and ._/+-"),
            (Duration, "a number with one of the units ms, s, m, h, d, w, y, e.g. 15s or 15d"),
        )
    }
)


class Model(BaseModel):
    """Settings that all parts of the configuration share: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)
