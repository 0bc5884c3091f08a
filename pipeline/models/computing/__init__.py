"""How a network is computed on the processor at hand: chosen by measuring, once."""
