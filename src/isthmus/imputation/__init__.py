"""Imputation of missing values from the code and from a multivariate normal distribution."""
