"""``saman setup``: builds an environment that can train.

Uses the standard library only, because it runs before anything is installed.
"""
