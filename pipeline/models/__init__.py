"""Networks. Each module is one architecture; MONAI's are named straight in the YAML."""
