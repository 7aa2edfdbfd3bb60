"""Training: one token-exact trainer, teachers, students, and the verbs `pretrain` and `heal`."""
