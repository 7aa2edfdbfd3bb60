"""Files that travel with what is saved. They import nothing of Attar."""
