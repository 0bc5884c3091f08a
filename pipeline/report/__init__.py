"""The review pages of runs and evaluations: self-contained, for engineers and radiologists."""
