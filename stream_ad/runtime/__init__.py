"""The running worker: consumer loop, delivery, checkpoints, topic watcher, replay. Only this room catches broadly."""
