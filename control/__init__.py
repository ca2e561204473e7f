"""The control plane: plans, runs, history; a master, managers and agents, and messages between."""
