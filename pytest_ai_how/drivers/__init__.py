"""What makes machines exist: systemd-nspawn here, or machines that exist already, reached by ssh."""
