"""JSON files that several rooms share: each a frozen dataclass with a schema version, its reader and its writer."""
