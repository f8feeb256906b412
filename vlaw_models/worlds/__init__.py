"""Worlds: everything a policy can be rolled out in. The robot and the world model meet the same protocol."""
