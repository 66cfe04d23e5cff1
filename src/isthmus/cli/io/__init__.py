"""Open input rows and write results for the command line."""
