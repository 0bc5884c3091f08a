"""How series come into the ledger: asked for at the source, or received."""
