"""What is due, in process and done: the ledger, and the work folder with the files."""
