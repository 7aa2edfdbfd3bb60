"""Entropy coding in integers: frequencies, an arithmetic coder, and framed bit streams."""
