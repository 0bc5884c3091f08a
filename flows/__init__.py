"""The stages on Prefect, the models in MLflow, and the command line. No tensor work."""
