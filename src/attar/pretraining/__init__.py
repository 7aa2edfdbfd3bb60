"""`attar pretrain`: models from random weights, or further training of one, on plain text."""
