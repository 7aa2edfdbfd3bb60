"""Decoding: several tokens for one run of the model, its text the same but for rounding."""
