"""Raw scores to calibrated scores, episodes and emissions; absence alerts; profiles. Pure: no clock, no I/O."""
