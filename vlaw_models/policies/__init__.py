"""Policies: observation and instruction in, chunks of absolute pose targets out."""
