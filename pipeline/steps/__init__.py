"""Update rules: what one iteration of the one training loop does."""
