"""The command line: the only part that reads the environment, clocks and terminals."""
