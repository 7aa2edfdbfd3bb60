"""Searches over choices: spaces, trials that workers share, and what came of them."""
