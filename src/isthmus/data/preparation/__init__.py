"""The fitted, invertible transform from raw rows to what the network sees."""
