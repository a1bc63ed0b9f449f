"""The pytest skin of the library."""
