"""What changes from task to task; everything else is shared."""
