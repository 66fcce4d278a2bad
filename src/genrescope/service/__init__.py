"""Classification for many clients: queue, worker processes, limits, jobs, answers; no HTTP."""
