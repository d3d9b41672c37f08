"""For Python users: `Client` of an installation, `Detector` for notebooks, frames and plots."""
