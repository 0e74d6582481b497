"""How bytes come in: the HTTP front door, and WebSocket connections behind it."""
