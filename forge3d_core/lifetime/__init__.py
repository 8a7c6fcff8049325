"""Ends: calls that are guarded against a close, tearing down, and closing what is still busy."""
