"""The machine that rfwp runs on: resources, signals and diagnosis."""
