"""Reaching people who are away, through the application's own push providers."""
