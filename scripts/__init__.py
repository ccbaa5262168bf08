"""Programs for the shell: short files that parse options, call the libraries in checking/, and print the results."""
