"""What must not pass: the layer-2 policy of a room, the same at the relay and at the gateway."""
