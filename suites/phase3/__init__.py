"""Storage: its services, semantics, integrity, and what it survives."""
