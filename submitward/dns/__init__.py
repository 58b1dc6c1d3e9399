"""What the world's DNS says of our domains, and what receivers will make of it."""
