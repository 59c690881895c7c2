"""Games in, arrays out: worlds of environments that are stepped together."""
