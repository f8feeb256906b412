"""Policies: observation and instruction in, chunks of actions out."""
