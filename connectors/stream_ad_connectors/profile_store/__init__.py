"""Versioned profiles on any fsspec URL."""
