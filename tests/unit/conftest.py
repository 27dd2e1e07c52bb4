"""What holds for every unit test: properties are judged by what they say, never by their time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
