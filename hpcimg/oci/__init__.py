"""The OCI side: references, indexes and manifests, and the registry they come from."""
