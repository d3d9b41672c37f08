"""The Python SDK: `Client` of an installation, `Detector` for notebooks, data frames and plots."""
