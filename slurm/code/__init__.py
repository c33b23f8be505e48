"""The user's code: which of its files a run takes along."""
