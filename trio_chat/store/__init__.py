"""What is remembered: the `Store` interface, and the stores that implement it."""
