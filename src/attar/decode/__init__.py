"""Decoding: several tokens for one run of the model, without changing what it says."""
