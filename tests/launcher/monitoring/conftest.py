"""Makes the helpers of this folder importable, and says where Prometheus's programs are."""
