"""What is done in the background: one file for each reason to run."""
