"""The default scorer: components, their combination, sessions and batching."""
