"""The clause tests, one module for each area of the catalogue."""
