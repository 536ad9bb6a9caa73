"""What base, few-shot prompts, LoRA and full fine-tuning answer on public sets."""
