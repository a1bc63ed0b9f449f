"""MLOPS-1.2, 2.2, 3.1, 3.2: Oumi, through its own commands."""
