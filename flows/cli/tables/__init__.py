"""Tables that close a command."""
