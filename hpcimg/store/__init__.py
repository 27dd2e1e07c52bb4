"""The shared image store: converted images by digest, whole or absent."""
