"""MLOPS-1.1: one process trains on one GPU."""
