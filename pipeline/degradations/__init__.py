"""Stage degrade: y = H(x) + n, for every task."""
