"""Commands about published models."""
