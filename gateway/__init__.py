"""The public edge of Trivium: one core, two skins (gRPC and OpenAI-compatible HTTP), and no state of its own."""
