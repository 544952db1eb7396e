"""What the program changes on the host, and how all of it is undone."""
