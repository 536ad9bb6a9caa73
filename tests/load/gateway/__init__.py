"""What the door itself costs, beside the floor that nobody can go under."""
