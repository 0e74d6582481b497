"""What the server decides: a plain synchronous state machine. No I/O, no clock, no randomness."""
