"""Prometheus's text: HELP and TYPE before the values, escapes, histograms that add up."""

from __future__ import annotations

from hpcimg.prometheus import Metric, Sample, exposition, histogram


def test_a_counter_with_labels():
    """A line for each value, and a line break at the end of the last."""
    samples = (Sample(3, {"image": "r/a:1", "result": "hit"}), Sample(0.25, {"image": "b"}))
    assert exposition([Metric("x_total", "counter", "Requests.", samples)]) == (
        "# HELP x_total Requests.\n"
        "# TYPE x_total counter\n"
        'x_total{image="r/a:1",result="hit"} 3\n'
        'x_total{image="b"} 0.25\n'
    )


def test_foreign_words_are_escaped():
    """Neither a label nor a help text ends its line."""
    text = exposition([Metric("x", "gauge", "a\\b\nc", (Sample(1, {"l": 'a"b\\c\nd'}),))])
    assert text == ('# HELP x a\\\\b\\nc\n# TYPE x gauge\nx{l="a\\"b\\\\c\\nd"} 1\n')


def test_a_histogram_is_cumulative():
    """Each class holds all below it; the last is the count."""
    assert exposition([histogram("t_seconds", "Time.", (0.5, 1.0), (1, 2, 3), 9.5)]) == (
        "# HELP t_seconds Time.\n"
        "# TYPE t_seconds histogram\n"
        't_seconds_bucket{le="0.5"} 1\n'
        't_seconds_bucket{le="1"} 3\n'
        't_seconds_bucket{le="+Inf"} 6\n'
        "t_seconds_sum 9.5\n"
        "t_seconds_count 6\n"
    )


def test_large_counters_keep_all_digits():
    """Bytes of a year fit."""
    text = exposition([Metric("b_total", "counter", "Bytes.", (Sample(2**53 - 1),))])
    assert text.endswith("b_total 9007199254740991\n")
