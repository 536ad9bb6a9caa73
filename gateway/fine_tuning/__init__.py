"""Fine-tuning jobs in OpenAI's shape over the trainer: one job here is one job there, under the same id."""
