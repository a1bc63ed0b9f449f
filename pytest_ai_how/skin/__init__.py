"""What the plugin is made of. Only ``settings``, ``marks`` and ``keys`` are imported without ``--cluster``."""
