"""Images, physics and learning. Never imports prefect or mlflow: see flows/ for those."""

from pipeline.core.malloc import keep_freed_memory

keep_freed_memory()  # now: once there is a second thread, it has a heap of its own and keeps it
