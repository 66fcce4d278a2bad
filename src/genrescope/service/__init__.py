"""Classification for many clients: queue, worker processes, limits, temporary files; no HTTP."""
