"""Synthetic series and the training of the shipped weights and of group models."""
