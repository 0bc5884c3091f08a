"""Update rules: what one iteration of the training loop does."""
