"""What a user sees and types, and what a program reads."""
