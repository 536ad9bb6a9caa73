"""How well ``auto`` chooses."""
