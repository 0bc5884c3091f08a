"""Fast convolutions on CPUs by Winograd filtering."""
