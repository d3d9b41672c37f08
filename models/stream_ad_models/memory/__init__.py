"""The memory of normal windows: features, nearest stored windows, distances, the stream's own growth."""
