"""Vector environments: several environments stepped together, arrays in and arrays out."""
