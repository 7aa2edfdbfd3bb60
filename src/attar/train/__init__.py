"""Training: one token-exact trainer, teachers, and the verbs `pretrain` and `heal`."""
