"""Real tables of a few samples, faults planted in them, and what the checks say to both."""
