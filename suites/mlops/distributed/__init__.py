"""MLOPS-2.1: several processes train together on several GPUs."""
