"""Which backend opens: configuration, score, and the decision explained."""
