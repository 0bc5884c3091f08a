"""Stage register, as far as it needs no MLflow: which version is better."""
