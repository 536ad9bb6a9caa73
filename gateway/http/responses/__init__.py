"""Responses in OpenAI's shape."""
