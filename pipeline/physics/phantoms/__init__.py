"""Digital phantoms: patients with known anatomy, and test objects for image quality."""
