"""What a cluster's YAML says: models, loading with every mistake at once, capabilities, schema, fingerprint."""
