"""The prompt: typing, suggestions, help, status, progress."""
