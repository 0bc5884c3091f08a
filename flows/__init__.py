"""The stages on Prefect, the models in MLflow, and the command line. No tensor work."""

import os

# Both read their settings at import, so these stand here. They speak only when spoken to (the
# bars and the closing tables say it all), call no server, and load nothing that can run code.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# The setting above is the server's; Prefect's client, on a terminal, asks for this one.
os.environ.setdefault("DO_NOT_TRACK", "1")
# A new database on a busy machine takes longer than the 20 s that Prefect gives it.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
