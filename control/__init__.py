"""What the master does: commands and their effects, who has died, groups, stabilize, the run's own files."""
