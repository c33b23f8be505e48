"""Commands for runs on a cluster that this machine reaches over ssh, and the other end of such a connection."""
