"""The running worker: consumer loop, checkpoints, faust app, topic watcher, replay. Only this room catches broadly."""
