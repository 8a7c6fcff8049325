"""Commands that this distribution adds to ``forge3d``."""
