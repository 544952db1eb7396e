"""Measurements that people run; each is a script."""
