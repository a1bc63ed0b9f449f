"""What the small runs of phase 4 consist of."""
