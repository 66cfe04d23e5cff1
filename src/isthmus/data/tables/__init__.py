"""Tables with named columns: infer column types, convert to numbers, and restore."""
