"""The little of libvirt-python that the driver uses; the package is imported when a connection is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from pytest_ai_how.drivers.libvirt.rights import refusal
from pytest_ai_how.errors import HostError, ProvisionError

# libvirt-python has no types: a connection, domain or network is what has the methods that are used.
Connection = Any
Domain = Any
Network = Any

# virErrorNumber (libvirt/virterror.h)
NO_SUPPORT, NO_DOMAIN, NO_NETWORK, OPERATION_INVALID = 3, 42, 43, 55
# virDomainUndefineFlagsValues: MANAGED_SAVE, SNAPSHOTS_METADATA and NVRAM
UNDEFINE_ALL = 1 | 2 | 4
# virDomainXMLFlags: the definition that the next start takes, also of a machine that runs.
INACTIVE = 2
# virDomainState (libvirt/libvirt-domain.h): NOSTATE, SHUTOFF and CRASHED are off, all others have a process.
OFF = frozenset({0, 5, 6})

INSTALL = (
    "apt-get install --no-install-recommends libvirt-dev pkg-config gcc python3-dev, then pip install libvirt-python"
)


def lacks_libvirt() -> str:
    """Why libvirt can't be spoken to from here; empty when it can."""
    return "" if find_spec("libvirt") else "needs the Python package libvirt-python"


@contextmanager
def connected(uri: str) -> Iterator[Connection]:
    """A connection to the daemon at ``uri``, closed at the end.

    Raises :class:`HostError` when there is none, :class:`ProvisionError` for what libvirt refuses in the block.
    """
    libvirt = _libvirt()
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        if refused := refusal(uri):
            raise refused from error
        raise HostError(
            "localhost",
            f"libvirt does not answer at {uri}: {error.get_error_message()}",
            expected="a libvirt daemon that this user may use",
            cure="systemctl start libvirtd, and be root or in the group libvirt",
        ) from error
    try:
        yield connection
    except libvirt.libvirtError as error:
        raise ProvisionError("libvirt", error.get_error_message() or str(error)) from error
    finally:
        connection.close()


@contextmanager
def naming(where: str, failed: str, cure: str = "see what libvirt and QEMU say to it") -> Iterator[None]:
    """Say which machine it was that libvirt refused in the block. Raises :class:`ProvisionError`."""
    try:
        yield
    except Exception as error:
        if not error_number(error):
            raise
        raise ProvisionError(where, f"{failed}: {error}", cure=cure) from error


def answers(uri: str) -> bool:
    """Whether a daemon answers at ``uri``."""
    libvirt = _libvirt()
    try:
        libvirt.open(uri).close()
    except libvirt.libvirtError:
        return False
    return True


def error_number(error: Exception) -> int:
    """Libvirt's number of an error; 0 for errors that are not libvirt's."""
    code = getattr(error, "get_error_code", None)
    return int(code()) if code else 0


def find_domain(connection: Connection, uuid: str) -> Domain | None:
    """The domain with this uuid, or None."""
    try:
        return connection.lookupByUUIDString(uuid)
    except Exception as error:
        if error_number(error) == NO_DOMAIN:
            return None
        raise


def find_network(connection: Connection, uuid: str) -> Network | None:
    """The network with this uuid, or None."""
    try:
        return connection.networkLookupByUUIDString(uuid)
    except Exception as error:
        if error_number(error) == NO_NETWORK:
            return None
        raise


def listed(call: Callable[[], Iterable[Any]]) -> list[Any]:
    """What a method of a connection lists; nothing where the daemon lacks the part that would know.

    From Debian 13 on, what knows networks and storage pools are packages of their own (libvirt 11.3: "this function is
    not supported by the connection driver").
    """
    try:
        return list(call())
    except Exception as error:
        if error_number(error) == NO_SUPPORT:
            return []
        raise


def destroy(domain: Domain) -> None:
    """Cut a domain off; one that has just ended is no error."""
    if domain.isActive():
        tolerate_ended(domain.destroy)


def tolerate_ended(call: Callable[[], object]) -> None:
    """Call a method of a domain; that the domain ended meanwhile is no error."""
    try:
        call()
    except Exception as error:
        if error_number(error) != OPERATION_INVALID:
            raise


def _libvirt() -> Any:
    try:
        import libvirt
    except ImportError as error:
        raise HostError("localhost", f"no Python package libvirt-python ({error})", cure=INSTALL) from error
    # By default every error is printed on standard error as well as raised.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt
