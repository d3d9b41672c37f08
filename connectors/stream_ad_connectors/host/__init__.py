"""This machine's metrics as a source, and its clock."""
