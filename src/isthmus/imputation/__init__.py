"""Fill in missing values from the code and from a multivariate normal."""
