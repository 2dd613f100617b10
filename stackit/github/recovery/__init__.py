"""Recovery of missed deliveries: GitHub's own list of them is read, and what never came is taken from there."""
