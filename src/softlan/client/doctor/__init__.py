"""What is right and wrong with this machine, its network and the relay, before anyone plays."""
