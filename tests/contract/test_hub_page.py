"""The hub's page in a real browser: light and dark, by keyboard, and for those who may."""

from __future__ import annotations

import re
import shutil

import pytest
from hub import RunningHub
from registry import Registry
from test_cli import _put_index
from test_hub_serve import NAME, WORDS, login, settings_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Start a hub whose types have pulled three images."""
    folder = tmp_path_factory.mktemp("hub")
    with Registry() as registry:
        _put_index(registry, "qnib/bench", *WORDS)
        _put_index(registry, "qnib/wide", ("cpu:skylake_avx512",), ("cpu:zen3",))
        _put_index(registry, "tools/solver", ())
        with RunningHub(folder, settings_of(registry, folder)) as running:
            for name in ("qnib/bench", "qnib/wide", "tools/solver"):
                running.ask(f"/v2/{name}/manifests/latest", login("type1"))
            yield running


@pytest.fixture(scope="module")
def browser():
    """Start one browser."""
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser, hub):
    """Open the page as somebody; nothing may be complained of in the browser's console."""
    opened, said = [], []

    def open_page(path="/", who="root", **options):
        credentials = {"username": who, "password": who}
        context = browser.new_context(http_credentials=credentials, **options)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"http://{hub.name}{path}")
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert said == []


def cells(page):
    """Read the table's words, by image and type."""
    heads = page.locator(".grid thead th").all_inner_texts()[1:]
    return {
        row.locator("th").inner_text().partition("/")[2]: dict(
            zip(heads, row.locator("td").all_inner_texts(), strict=True)
        )
        for row in page.locator(".grid tbody tr").all()
    }


@in_browser
def test_images_by_types(visit):
    """Each type has its word for each image."""
    found = cells(visit())
    assert found["qnib/bench:latest"]["qnib/type1"] == "specific"
    assert set(found["qnib/wide:latest"].values()) == {"none"}
    assert set(found["tools/solver:latest"].values()) == {"generic"}


@in_browser
def test_the_reason_on_click(visit):
    """In place, with the verdict on every entry; Escape closes it."""
    page = visit()
    page.get_by_role("link", name="none").first.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert "needs cpu:skylake_avx512" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@in_browser
def test_by_keyboard_alone(visit):
    """To the search by /, through the table by arrows, to a reason by Enter, and out again."""
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("bench")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=bench**")
    assert list(cells(page)) == ["qnib/bench:latest"]
    page.locator(".grid td a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert "for qnib/type2" in dialog.get_by_role("heading").inner_text()
    page.keyboard.press("Enter")
    dialog.wait_for(state="hidden")
    focused = page.evaluate("document.activeElement.href")
    assert "type2" in focused


@in_browser
def test_without_script(visit):
    """Links lead to whole pages."""
    page = visit(java_script_enabled=False)
    page.get_by_role("link", name="none").first.click()
    assert "needs cpu:skylake_avx512" in page.get_by_role("main").inner_text()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit, scheme):
    """All words can be read: a contrast of 4.5 at least, as WCAG has it."""
    page = visit(color_scheme=scheme)
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back))) > 380) == (scheme == "light")


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => {
      c /= 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
  };
  let worst = { ratio: 21 };
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !one.checkVisibility()) continue;
    const pair = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: one.textContent };
  }
  return worst;
}"""


@in_browser
def test_types_and_accounts_for_those_who_may(visit, hub):
    """An administrator adds and removes; a puller and a machine see what is theirs."""
    page = visit("/types")
    page.get_by_label("Name").fill("qnib/new")
    page.get_by_label("Offers").fill("cpu:skylake")
    page.get_by_label("Password of its login").fill("p")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Remove qnib/new").wait_for()
    assert hub.ask(NAME, "qnib-new:p").status == 200
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove qnib/new").click()
    page.get_by_role("button", name="Remove qnib/new").wait_for(state="detached")
    assert hub.ask(NAME, "qnib-new:p").status == 401
    page = visit("/accounts")
    page.get_by_label("Name").fill("visitor")
    page.get_by_label("Password").fill("visitor")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Disable visitor").click()
    page.get_by_role("button", name="Enable visitor").wait_for()
    assert hub.ask("/v2/", "visitor:visitor").status == 401


@in_browser
def test_a_machine_sees_itself(visit):
    """One column, and nothing to change."""
    page = visit("/", "qnib-type1")
    assert list(cells(page)["qnib/bench:latest"]) == ["qnib/type1"]
    assert page.get_by_role("link", name="Accounts").count() == 0
    page.goto(page.url + "types")
    assert page.get_by_role("button", name="Add").count() == 0


def test_who_may_not_see_or_change(hub):
    """Nobody sees images; forms of other pages, and of machines, do nothing."""
    for path in ("/", "/explain?image=qnib/bench&type=qnib/type1", "/types", "/accounts"):
        found = hub.ask(path)
        assert found.status == 401
        assert found.headers["WWW-Authenticate"].startswith("Basic ")
    assert hub.ask("/accounts", "pull:pull").status == 403
    kind = "application/x-www-form-urlencoded"
    for proof in ("", "proof=x&", f"proof={_proof(hub, 'pull:pull')}&"):
        body = f"{proof}name=qnib/forged&words=&password=p"
        assert hub.ask("/types/add", "root:root", "POST", body, Content_Type=kind).status == 403
    proof = _proof(hub, "root:root")
    body = f"proof={proof}&name=qnib/forged&words=&password=p"
    headers = {"Content_Type": kind, "Origin": "http://evil.example.org"}
    assert hub.ask("/types/add", "root:root", "POST", body, **headers).status == 403
    assert b"qnib/forged" not in hub.ask("/types", "root:root").body


def _proof(hub, who):
    found = re.search(rb'name="proof" value="([0-9a-f]+)"', hub.ask("/types", who).body)
    return found[1].decode() if found else ""


def test_what_others_write_is_only_text(hub):
    """Names of types and of searches cannot be markup, and no other script runs."""
    found = hub.ask("/?q=%3Cscript%3Ealert(1)%3C/script%3E", "root:root")
    assert b"<script>alert" not in found.body
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert found.headers["X-Content-Type-Options"] == "nosniff"
