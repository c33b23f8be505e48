"""Schemas, records, errors, the YAML loader, and the YAML files that saman ships."""
