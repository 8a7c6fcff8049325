"""What a process tells of its devices while it runs, to those whom its user asks to look."""
