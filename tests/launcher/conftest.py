"""Makes the helpers of this folder (``ranks``) importable in its sub-folders."""
