"""Makes the helpers of this folder (``staged``) importable in its sub-folders."""
