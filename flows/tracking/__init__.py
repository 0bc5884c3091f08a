"""Models and figures in MLflow."""
