"""What the drivers that make machines share: keys, rendered files, the shared directory and the cluster's bridge."""
