"""The command line: thin calls into the packages below, imported when a command runs."""
