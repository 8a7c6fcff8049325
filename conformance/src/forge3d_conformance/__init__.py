"""Proves a forge3d backend against written guarantees, and proves that the proof can fail."""
