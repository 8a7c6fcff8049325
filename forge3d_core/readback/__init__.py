"""The readback pool: how results come home without stalling."""
