"""What the site's account and a user ask with: the machine's files, the site's logins, names."""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
from pathlib import Path

import pytest
from clients import reference_to
from registry import Registry

from hpcimg.errors import AuthenticationError, NotFoundError, NotListedError, SettingsError
from hpcimg.oci.reference import parse_reference
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Settings, StoreSettings
from hpcimg.workflow import access
from hpcimg.workflow.access import own_access, site_access
from hpcimg.workflow.resolve import read_name

LOGIN = {"auth": base64.b64encode(b"site:hush").decode()}


@pytest.fixture(params=["basic", "token"])
def registry(request):
    """Run a registry that shows nothing without a login."""
    with Registry(auth=request.param, users={"site": "hush"}) as running:
        for repository in ("public/tools/bench", "private/bench"):
            running.put_image(repository, "latest", [b"layer"])
        yield running


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """A directory in the place of /etc/containers."""
    folder = tmp_path / "etc-containers"
    folder.mkdir()
    monkeypatch.setattr("hpcimg.oci.registries_conf.SYSTEM", folder)
    return folder


@pytest.fixture
def settings(registry, tmp_path):
    """Settings of a site that may show public/ to all its users."""
    auth = tmp_path / "site.json"
    auth.write_text(json.dumps({"auths": {registry.name: LOGIN}}))
    auth.chmod(0o400)
    site = RegistrySettings(plain_http=True, credentials=str(auth), readable=("public/*",))
    return settings_of(tmp_path, **{registry.name: site})


def settings_of(tmp_path, **registries) -> Settings:
    """Make settings whose store is this user's."""
    account = pwd.getpwuid(os.geteuid()).pw_name
    store = StoreSettings(path=str(tmp_path / "site"), account=account)
    return Settings(registries=registries, store=store)


def test_what_all_may_read_is_fetched_with_the_site_s_login(registry, settings):
    """A pattern that the administrator wrote makes a private repository everybody's."""
    reference = reference_to(registry, "public/tools/bench")
    assert site_access(settings).source.fetch_document(reference)


def test_everything_else_is_asked_for_anonymously(registry, settings):
    """The site's login opens nothing else, not even after it was used."""
    source = site_access(settings).source
    source.fetch_document(reference_to(registry, "public/tools/bench"))
    registry.seen.clear()
    registry.auth = "basic"
    with pytest.raises(AuthenticationError, match='wants a login for "private/bench"'):
        source.fetch_document(reference_to(registry, "private/bench"))
    assert all("Authorization" not in seen.headers for seen in registry.seen)


def test_the_site_s_login_is_no_user_s(registry, settings):
    """A user's own requests go with the user's own files."""
    registry.auth = "basic"
    with pytest.raises(AuthenticationError, match="wants a login"):
        own_access(settings, {}).source.fetch_document(reference_to(registry, "public/tools/bench"))


@pytest.mark.parametrize("mode", [0o404, 0o420, 0o440 | 0o1])
def test_a_file_that_others_may_read_is_refused(registry, settings, mode):
    """The site's secret is the account's alone; the message shows no part of it."""
    Path(settings.registries[registry.name].credentials).chmod(mode)
    with pytest.raises(SettingsError, match=r"are not safe: they belong to uid \d+") as caught:
        site_access(settings).source.fetch_document(reference_to(registry, "public/tools/bench"))
    assert f"(mode {mode:04o})" in caught.value.message
    assert "hush" not in caught.value.message + caught.value.hint


def test_a_file_that_is_missing(registry, settings):
    """A login that the settings promise and that is not there is a mistake, not anonymity."""
    path = settings.registries[registry.name].credentials
    Path(path).unlink()
    with pytest.raises(SettingsError, match=re.escape(f'could not read credentials in "{path}"')):
        site_access(settings).source.fetch_document(reference_to(registry, "public/tools/bench"))


@pytest.fixture
def open_registry():
    """Run a registry that shows all to all."""
    with Registry() as running:
        running.put_image("qnib/bench", "latest", [b"layer"])
        yield running


def test_blocked_names_are_refused_though_they_are_cached(open_registry, tmp_path, etc):
    """The cache answers for no name that the administrator has blocked since."""
    settings = settings_of(tmp_path, **{open_registry.name: RegistrySettings(plain_http=True)})
    reference = reference_to(open_registry, "qnib/bench")
    digest = site_access(settings).source.fetch_document(reference).digest
    rule = f'[[registry]]\nlocation = "{open_registry.name}/qnib"\nblocked = true\n'
    (etc / "registries.conf").write_text(rule)
    for one in (site_access(settings), own_access(settings, {}, listed_only=True)):
        with pytest.raises(NotListedError, match=r"is blocked by registries\.conf"):
            one.source.fetch_document(reference.with_digest(digest))


def test_the_site_asks_the_mirrors_of_etc(open_registry, tmp_path, etc):
    """What stands for a listed host in /etc is asked by the site's account."""
    (etc / "registries.conf.d").mkdir()
    (etc / "registries.conf.d/site.conf").write_text(
        f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\n'
        f'location = "{open_registry.name}"\ninsecure = true\n'
    )
    settings = settings_of(tmp_path, **{"docker.io": RegistrySettings()})
    reference = parse_reference("qnib/bench")
    assert site_access(settings).source.fetch_document(reference)


def test_a_user_s_own_file_is_for_the_user_s_own_commands(open_registry, tmp_path, etc):
    """For a job the administrator alone says what may be asked."""
    folder = access.home_directory() / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{open_registry.name}"\ninsecure = true\n'
    )
    reference = parse_reference("qnib/bench")
    settings = settings_of(tmp_path)
    assert own_access(settings, {}).source.fetch_document(reference)
    for job in (own_access(settings, {}, listed_only=True), site_access(settings)):
        with pytest.raises(NotListedError, match=r'"docker\.io" is not listed'):
            job.source.fetch_document(reference)


def test_a_user_s_own_file_moves_no_job_s_image(open_registry, tmp_path, etc):
    """What a user puts in the place of a listed host is not what the administrator listed."""
    with Registry() as listed:
        folder = access.home_directory() / ".config/containers"
        folder.mkdir(parents=True)
        (folder / "registries.conf").write_text(
            f'[[registry]]\nprefix = "{listed.name}"\nlocation = "{open_registry.name}"\n'
            "insecure = true\n"
        )
        settings = settings_of(tmp_path, **{listed.name: RegistrySettings(plain_http=True)})
        reference = reference_to(listed, "qnib/bench")
        with pytest.raises(NotFoundError):
            own_access(settings, {}, listed_only=True).source.fetch_document(reference)
        assert own_access(settings, {}).source.fetch_document(reference)
        assert len(listed.seen) == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tool", "quay.io/site/tool:latest"),
        ("tool:1", "quay.io/site/tool:1"),
        ("docker://tool", "quay.io/site/tool:latest"),
        ("tool/x", "registry.site/tool/x:latest"),
        ("other", "registry.site/other:latest"),
        ("docker.io/tool", "docker.io/library/tool:latest"),
        ("quay.io#tool", "quay.io/tool:latest"),
    ],
)
def test_short_names_of_the_machine(tmp_path, etc, name, meant):
    """Names without a registry are what podman takes them for on this machine."""
    conf = (
        'unqualified-search-registries = ["registry.site"]\naliases = {tool = "quay.io/site/tool"}'
    )
    (etc / "registries.conf").write_text(conf)
    assert str(read_name(name, settings_of(tmp_path))) == meant


def test_short_names_where_the_site_has_its_own_registry(etc):
    """Our settings know better; nor is a registry searched for that is one of several."""
    conf = 'unqualified-search-registries = ["a.site", "b.site"]\n[aliases]\n"tool" = "a.b/tool"\n'
    (etc / "registries.conf").write_text(conf)
    assert str(read_name("tool", Settings(default_registry="r:1"))) == "r:1/tool:latest"
    assert str(read_name("other", Settings())) == "docker.io/library/other:latest"
    aliased = Settings(aliases={"tool": "r:1/mine"})
    assert str(read_name("tool", aliased)) == "r:1/mine:latest"


def test_the_site_s_proxy(tmp_path):
    """The settings' proxy reaches the client, whose environment is empty in a job."""
    settings = Settings(
        registries={"r.site": RegistrySettings()},
        store=settings_of(tmp_path).store,
        proxy="http://127.0.0.1:9",
        no_proxy=("x.site",),
    )
    hosts = own_access(settings, {}).client._hosts
    assert hosts.route("https://r.site/").proxy == "http://127.0.0.1:9"
    assert hosts.route("https://x.site/").proxy is None
