"""What can be seen from outside: counters, frame logs, structured logs."""
