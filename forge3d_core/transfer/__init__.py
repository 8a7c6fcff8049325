"""Bulk transfers: worker threads that fill and empty staging chunks at the speed of the link."""
