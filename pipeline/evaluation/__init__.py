"""Stage evaluate: figures of a model on held-back patients."""
