"""Reward models (judges): 16 frames and a question in, P(yes) out."""
