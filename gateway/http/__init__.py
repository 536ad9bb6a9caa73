"""The OpenAI-compatible transport: another encoding of the same calls, through the same layers, to the same core."""
