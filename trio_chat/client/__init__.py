"""Clients. They import the wire, the model and the errors; nothing of the server."""
