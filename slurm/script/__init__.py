"""Text of job scripts: quoting, and the set-up of the software."""
