"""Virtual machines by libvirt."""

from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]
