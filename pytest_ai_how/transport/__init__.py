"""Ways to reach a machine. Importing this costs nothing: fabric is loaded at the first connection over ssh."""

from pytest_ai_how.transport.fake import Call, FakeTransport
from pytest_ai_how.transport.local import LocalTransport
from pytest_ai_how.transport.protocol import Transport
from pytest_ai_how.transport.ssh import SshTransport

__all__ = ["Call", "FakeTransport", "LocalTransport", "SshTransport", "Transport"]
