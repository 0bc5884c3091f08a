"""CT physics: geometry, projection, reconstruction, dose and phantoms."""
