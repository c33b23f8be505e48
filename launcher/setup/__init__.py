"""What is behind ``saman setup``: builds an environment that can train.

Standard library only, because it runs before anything is installed.
"""
