"""Threads, and waiting: what knows nothing of devices."""
