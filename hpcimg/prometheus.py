"""Prometheus's text format, version 0.0.4: metrics in, text out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One value; `suffix` is what a histogram's parts add to the metric's name."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Metric:
    """A name, a kind (counter, gauge, histogram), what it is in a sentence, and its values."""

    name: str
    kind: str
    about: str
    samples: tuple[Sample, ...]


def exposition(metrics: Iterable[Metric]) -> str:
    """Write metrics, each with its HELP and TYPE; a name comes once and its values together."""
    lines = []
    for metric in metrics:
        about = metric.about.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {metric.name} {about}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [_line(metric.name, sample) for sample in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def histogram(
    name: str, about: str, bounds: Sequence[float], classes: Sequence[int], total: float
) -> Metric:
    """Make a histogram; `classes` has a number for each bound and one beyond, each for itself."""
    samples = []
    below = 0
    for bound, number in zip((*bounds, None), classes, strict=True):
        below += number
        edge = "+Inf" if bound is None else _number(bound)
        samples.append(Sample(below, {"le": edge}, "_bucket"))
    samples += [Sample(total, suffix="_sum"), Sample(below, suffix="_count")]
    return Metric(name, "histogram", about, tuple(samples))


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    braces = f"{{{labels}}}" if labels else ""
    return f"{name}{sample.suffix}{braces} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
