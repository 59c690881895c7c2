"""The benchmarks of `rfwp bench`."""
