"""Grading on Gradescope: the zip file that a teacher uploads, and what runs there."""
