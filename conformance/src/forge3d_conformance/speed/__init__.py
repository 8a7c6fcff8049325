"""Speed: what an operation costs beside the raw API, measured in one process, as ratios."""
