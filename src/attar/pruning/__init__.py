"""Structured pruning to a budget: the loop, its candidates, their cost and the baselines."""
