"""What results look like: a file for each format."""
