"""Tables in files: Parquet and CSV."""
