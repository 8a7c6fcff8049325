"""Memory: the budget, who holds what, and host memory lent as arrays."""
