"""The benchmarks of `rfwp bench`: what they run, how they time it, what they print."""
