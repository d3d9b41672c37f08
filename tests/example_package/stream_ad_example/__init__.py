"""Plugins of stream_ad in a separate package; see docs/extending.md."""
