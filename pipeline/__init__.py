"""Images, physics and learning. Never imports prefect or mlflow: see flows/ for those."""
