"""Parts of stream_ad from a package of their own; see docs/extending.md."""
