"""The PACS, scheduled jobs, status and metrics."""
