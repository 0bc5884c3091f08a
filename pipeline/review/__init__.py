"""The review page: series on show, the server behind it, what readers decided, and statistics."""
