"""Timelines: values that grow as a lane's work completes, and points to wait for."""
