"""hpcimg: one image name, on every node the best build of it."""

__version__ = "0.1.0"
