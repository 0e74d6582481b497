"""The tests: one file per source file, and a folder per room."""
