"""How well sentences that their sources support are told from others, and where the thresholds lie best."""
