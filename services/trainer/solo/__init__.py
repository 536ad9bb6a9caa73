"""Training of what cannot be joined: all parameters, DoRA and QLoRA, by TRL's trainers, one job in a process."""
