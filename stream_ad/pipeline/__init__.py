"""Many series, one partition after another: decode, group, score in batches, emit, snapshot. Through ports only."""
