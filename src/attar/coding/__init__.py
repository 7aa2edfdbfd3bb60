"""Signals and text as few bits: entropy coding in integers, wavelets, and quantisation."""
