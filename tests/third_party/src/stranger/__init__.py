"""A backend that shares no code with forge3d: one queue, one thread, numpy memory."""
