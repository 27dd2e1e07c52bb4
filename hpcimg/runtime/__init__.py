"""Apptainer: converting an image and starting a container."""
