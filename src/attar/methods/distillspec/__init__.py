"""DistillSpec."""
