"""Write genres into files' tags: plan, apply, undo."""
