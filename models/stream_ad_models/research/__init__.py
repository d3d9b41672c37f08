"""The survey's families of scores and the tools they need; outside the default path."""
