"""Where the jobs of `ldct schedule` were before they moved to flows.hospital.jobs.

A Prefect server, and a service that was left running over the upgrade, start them by this name
until `ldct schedule` or `prefect deploy --all` has deployed them again (docs/upgrading.md).
"""

from flows.hospital.jobs import nightly, retrain, retry

__all__ = ["nightly", "retrain", "retry"]
