"""One YAML is one complete, typed run."""
