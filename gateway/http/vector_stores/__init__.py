"""Vector stores in OpenAI's shape."""
