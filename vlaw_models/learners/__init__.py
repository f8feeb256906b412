"""Learners: episodes in, a trained policy, world model or reward model out."""
