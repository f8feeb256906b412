"""Robots: what is particular about each, and the simulators of those that have one."""
