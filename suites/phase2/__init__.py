"""Phase 2, compute and containers: Slurm's daemons and configuration are what the cluster's YAML says, everywhere."""
