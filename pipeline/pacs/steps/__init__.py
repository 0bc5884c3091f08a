"""What is done to each series: retrieve, derive, send, and delete the result in time."""
