"""`attar distill`: what its two systems, Distiller and Compressor, do together."""
