"""More text from the text there is."""
