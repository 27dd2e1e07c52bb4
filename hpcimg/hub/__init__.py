"""The hub: a registry front that answers each machine type with the one image that fits."""
