"""Copies for node-local storage: archives of the Python environment and of data, and the script that unpacks them."""
