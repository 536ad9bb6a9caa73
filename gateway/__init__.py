"""The public edge of Trivium: one core, two skins (gRPC and OpenAI-compatible HTTP); it keeps only waiting receipts."""
