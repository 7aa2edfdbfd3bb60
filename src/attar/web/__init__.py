"""What every server of Attar stands on: errors, keys, limits, metrics, start and stop."""
