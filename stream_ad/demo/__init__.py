"""The demo: scores a simulated plant with faults in the pipeline of a worker, and reports which it found."""
