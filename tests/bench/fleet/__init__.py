"""The same read-only checks of the same machines, by this product, by testinfra and by ReFrame."""
