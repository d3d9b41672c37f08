"""Work on files and histories: fit, train, backtest and the accuracy it reports. The pipeline is the worker's own."""
