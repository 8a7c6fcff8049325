"""A program run again and again on the seeded simulator, until a seed makes it fail."""
