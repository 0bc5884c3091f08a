"""The reader study: who reads what in which order, what was read, and what it shows."""
