"""Virtual machines by libvirt: the driver is in ``driver``, so that looking for KVM loads no more than that takes."""
