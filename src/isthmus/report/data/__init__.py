"""What the report shows, as values that the json module writes."""
