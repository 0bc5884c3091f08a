"""What generative models are used for: latent codes, search, filling, compression."""
