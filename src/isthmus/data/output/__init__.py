"""Write rows to files, whole or block by block."""
