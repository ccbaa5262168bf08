"""Grading: anybody's master is run with a folder of scripts, and what it prints is judged."""
