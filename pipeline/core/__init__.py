"""What all else stands on: units, volumes, label maps, errors, files. Imports nothing of ours."""
