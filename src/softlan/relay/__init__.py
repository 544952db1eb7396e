"""The public relay: rooms, who may join them, and what passes between their members."""
