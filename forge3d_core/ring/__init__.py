"""The staging ring: blocks in a circle, each reused only behind its fence."""
