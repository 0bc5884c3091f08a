"""Around a network: HU in, HU out, and its weights and card."""
