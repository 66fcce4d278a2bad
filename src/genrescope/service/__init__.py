"""Classification for many clients: a fair queue, worker processes, limits; without HTTP."""
