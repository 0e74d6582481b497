"""Push providers, against servers that replay what the providers document."""
