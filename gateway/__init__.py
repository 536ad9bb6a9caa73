"""The public edge of Trivium: one core, two transports (gRPC and OpenAI-compatible HTTP); it keeps only waiting receipts."""
