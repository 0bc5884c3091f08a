"""Messages to audit record repositories and to people."""
