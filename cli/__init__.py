"""What a person types: each command parses, calls one function of a room below, and prints."""
