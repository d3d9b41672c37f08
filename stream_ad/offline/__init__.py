"""Offline work on files and stored history: fit, train, backtest and its accuracy, with the pipeline of the worker."""
