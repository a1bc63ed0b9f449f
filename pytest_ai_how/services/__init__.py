"""Software on a cluster: whether it is ready, and its own verbs."""
