"""The checks that ship with the product, a folder a phase."""
