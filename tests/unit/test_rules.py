"""A site's policy rules: what they mean, and every word that would do nothing."""

from __future__ import annotations

import pytest

from hpcimg.errors import SettingsError
from hpcimg.features import parse_feature
from hpcimg.policy import Avoid
from hpcimg.settings import parse_settings

DIGEST = "sha256:" + "ab" * 32


def rule(text):
    """Read the settings of one rule, written as YAML's flow."""
    (found,) = parse_settings(f"default_registry: registry:5000\npolicies:\n  - {text}\n").policies
    return found


def avoided(word, *on):
    """What a rule avoids."""
    (feature,) = parse_feature(word)
    return (Avoid(feature, on),)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        # To YAML 1.1 the key `on` is the truth value.
        ("{avoid: {cpuflag: avx512f, on: [skylake_avx512, cascadelake]}}", "avoid",
         avoided("cpuflag:avx512f", "skylake_avx512", "cascadelake")),
        ("{avoid: [{cpuflag: avx512f}, {cuda: 12.4, on: [skx]}]}", "avoid",
         avoided("cpuflag:avx512f") + avoided("cuda:12.4", "skylake_avx512")),
        ("{targets: [skylake512, 'cpu:zen3', skylake-avx512], strict: true}", "targets",
         ("skylake_avx512", "zen3", "skylake_avx512")),
        ("{prefer: [broadwell, nvcap_52, site.rack:a]}", "prefer",
         ("cpu:broadwell", "nvcap:5.2", "site.rack:a")),
        ("{weights: {'broadwell,sm_52': 2, skylake512: 1.5}}", "weights",
         {"cpu:broadwell,nvcap:5.2": 2.0, "cpu:skylake_avx512": 1.5}),
        (f"{{weights: {{'{DIGEST}': 2}}}}", "weights", {DIGEST: 2.0}),
        ("{repository: 'qnib/*', policy: exact}", "repository", "registry:5000/qnib/*"),
        ("{repository: 'docker.io/qnib/*', policy: exact}", "repository", "docker.io/qnib/*"),
        ("{repository: '*/qnib/bench', policy: exact}", "repository", "*/qnib/bench"),
        ("{repository: '*', policy: exact}", "repository", "*"),
        ("{nodes: ['n[12]*'], allow_generic: false}", "nodes", ("n[12]*",)),
    ],
)  # fmt: skip
def test_words_are_brought_to_their_canonical_form(text, field, value):
    """All spellings that images may have, a repository's registry included."""
    assert getattr(rule(text), field) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "a rule changes nothing; it may set allow_generic, avoid, policy, prefer"),
        ("{repository: 'qnib/*'}", "a rule changes nothing"),
        ("{policy: exakt}", '"policy" is compatible or exact, not \'exakt\''),
        ("{targets: [skylake512x], strict: true}",
         "'skylake512x' is no known CPU target; did you mean skylake_avx512?"),
        ("{targets: skylake, strict: true}", '"targets" must be a list'),
        ("{avoid: {cpuflg: avx512f}}", "'cpuflg' is no known kind; did you mean cpuflag?"),
        ("{avoid: {cpuflag: [avx512f]}}", "'cpuflag' must be a text, not \"['avx512f']\""),
        ("{avoid: {cpuflag: avx512f, cpu: zen3}}", "write one of KIND: VALUE"),
        ("{avoid: {on: [zen3]}}", "write one of KIND: VALUE"),
        ("{avoid: {cpuflag: avx512f, on: [zen33]}}", "'zen33' is no known CPU target"),
        ("{avoid: {cpu: zen33}}", "'zen33' is no known word"),
        ("{prefer: ['cpu:skylak']}", "'skylak' is no known word; did you mean skylake?"),
        ("{prefer: [3]}", '"prefer" must be a list of texts'),
        ("{weights: {broadwell: .nan}}", "'broadwell' must be a number, not 'nan'"),
        ("{weights: {broadwell: .inf}}", "'broadwell' must be a number, not 'inf'"),
        (f"{{weights: {{broadwell: 1{'0' * 400}}}}}", "'broadwell' must be a number"),
        ("{weights: {broadwell: yes}}", "'broadwell' must be a number, not 'yes'"),
        ("{weights: {'sha256:fdeaa6b101cc': 2}}", "'sha256:fdeaa6b101cc' is no whole digest"),
    ],
)  # fmt: skip
def test_a_rule_that_would_do_nothing_is_an_error_with_its_line(text, why):
    """In silence it would look as if the site's wish were heard."""
    with pytest.raises(SettingsError) as caught:
        rule(text)
    assert caught.value.message.startswith("settings:3: ")
    assert why in caught.value.message


def test_a_key_in_two_spellings_is_one_that_stands_twice():
    """Either would hide the other."""
    with pytest.raises(SettingsError, match=r'^settings:2: "platform_features" stands twice'):
        parse_settings("platform-features: [broadwell]\nplatform_features: [zen3]\n")


def test_a_mistake_in_the_posts_spelling_has_its_line():
    """The first post writes a hyphen."""
    with pytest.raises(SettingsError, match=r'^settings:2: "platform-features" must be a list'):
        parse_settings("policy: exact\nplatform-features: broadwell\n")
