"""Breaking a real cluster on purpose, and asking the real checks about it."""
