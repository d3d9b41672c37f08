"""This machine: its metrics as a source, its clock."""
