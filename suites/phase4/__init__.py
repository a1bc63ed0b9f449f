"""Provisioning: the life cycle of a cluster, from its first start to nothing of it left."""
