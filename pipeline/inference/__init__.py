"""Stage infer: a trained model over a volume."""
