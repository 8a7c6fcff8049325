"""Defects of drivers: what an author of a backend gets wrong, laid over the driver of any backend."""
