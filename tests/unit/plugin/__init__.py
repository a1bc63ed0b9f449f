"""The plugin, run as a person runs it."""
