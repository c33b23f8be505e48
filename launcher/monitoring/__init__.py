"""What a run shows and tells while it goes on: metrics, alert rules, notifications."""
