"""Metrics: intervals for success rates, and how close a predicted video is to the recorded one."""
