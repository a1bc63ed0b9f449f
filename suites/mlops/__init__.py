"""Machine learning on a cluster: training, alone and distributed."""
