"""Machines by systemd-nspawn."""

from pytest_ai_how.drivers.nspawn.driver import NspawnDriver

__all__ = ["NspawnDriver"]
