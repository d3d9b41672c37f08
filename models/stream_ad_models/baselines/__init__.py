"""Scorers without a network, behind the same port."""
