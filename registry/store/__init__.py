"""What lies in a models folder: layout, audit log, manifest, signatures, policies."""
