"""The control stream: its messages and their framing: pure."""
