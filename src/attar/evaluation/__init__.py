"""How good a model is: likelihood, bits per byte, labelled tasks, tokenizers, task suites."""
