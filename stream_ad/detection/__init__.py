"""Raw score to calibrated score, alert episode and emission; absence of data; profiles. Pure: no clock, no I/O."""
