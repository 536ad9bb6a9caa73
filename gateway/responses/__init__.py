"""Responses: answers with items and events, from which a conversation can go on."""
