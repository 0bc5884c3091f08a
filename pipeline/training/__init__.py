"""Stage train: one loop for every task."""
