"""What an operator does to a chat with the command line: look at it, keep copies of it, take things out of it."""
