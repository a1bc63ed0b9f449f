"""Validate AI clusters with pytest: bring one up, prove each claim with evidence, leave a verdict."""

__version__ = "0.1.0"
