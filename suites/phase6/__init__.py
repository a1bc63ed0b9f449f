"""Final validation: TASK-040 to TASK-044."""
