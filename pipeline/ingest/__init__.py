"""Stage ingest: what a source holds is checked and put into the store."""
