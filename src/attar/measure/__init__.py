"""What a model costs: counted from its tensors, and timed on this machine."""
