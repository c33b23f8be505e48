"""Plans and executes every run of a study."""
