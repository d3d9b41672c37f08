"""The page in a real browser, over a real broker, a real store and a worker, as a newcomer opens it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from stream_ad_connectors.kafka.sink import KafkaSink

from stream_ad.records import Alert, AlertState, Outputs
from stream_ad.sdk.client import Client
from stream_ad.settings import KafkaSettings, load_settings
from tests.support.jobs import START, START_NS, STEP_NS, Job, opened_jobs, write_plant
from tests.support.services.influxdb import Influx, create_bucket
from tests.support.services.process import wait_until

TRAIN, TEST = 1_500, 900
AWKWARD = "a/b %20 <i>{ü}"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PICTURES = os.environ.get("STREAM_AD_PICTURES")  # a directory: what the docs show is written there


@dataclass
class Served:
    """A job with a worker and the page; `series` have scores and alerts, `AWKWARD` has readings."""

    job: Job
    link: str
    series: list[str]
    data: Path

    @property
    def base(self) -> str:
        return self.link.partition("/?")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, kafka: str, influx: Influx) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("page")
    series = write_plant(home, TRAIN, TEST)[:2]
    with opened_jobs() as opened:
        name = f"page-{home.name}"
        job = opened(home / "job", kafka, create_bucket(influx, name), f"{name}-sensors", name)
        job.run("fit", *(str(home / "PLANT" / f"{one}.train.parquet") for one in series))
        job.create_topic(2)
        worker = job.worker()
        assert wait_until(lambda: job.assigned(worker) == 2, every_s=0.2), job.log_of(worker)
        yield Served(job, job.serve(), series, home)


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """What a page complained of: every test ends with none."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def open_page(chromium: Browser, served: Served, faults: list[str]) -> Iterator[Callable[..., Page]]:
    contexts: list[BrowserContext] = []

    def make(path: str = "/", **options: object) -> Page:
        """Signed in by the printed link, then at `path`."""
        context = chromium.new_context(**{"viewport": DESK, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "response", lambda answer: faults.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.goto(served.link)
        page.goto(served.base + path)
        return page

    yield make
    for context in contexts:
        context.close()


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"page-{name}.png")


def series_path(series: str) -> str:
    return f"/series/{quote(series, safe='/')}"


def drawn(page: Page, least: int = 1) -> None:
    page.wait_for_function("least => Number(document.getElementById('chart').dataset.drawn) >= least", arg=least)


def test_series_and_alerts_come_while_the_pages_are_open(served: Served, open_page: Callable[..., Page]) -> None:
    overview, alerts = open_page("/"), open_page("/alerts")
    expect(overview.locator("#live")).to_have_text("live")
    expect(overview.locator("#none")).to_be_visible()
    expect(alerts.locator("#empty")).to_be_visible()
    overview.evaluate("window.same = true")
    files = [str(served.data / "PLANT" / f"{one}.test.parquet") for one in served.series]
    served.job.run("replay", *files, "--topic", served.job.topic, "--start", START)
    with Client(load_settings(served.job.home / "stream-ad.toml")) as client:
        client.publish(served.job.topic, AWKWARD, {"<b>": 1.0, "y z": 2.0}, START)
    for name in served.series:
        line = overview.locator("tr", has=overview.get_by_role("link", name=name, exact=True))
        expect(line.locator(".badge")).to_have_text("scoring", timeout=240_000)
    expect(overview.get_by_role("link", name=AWKWARD, exact=True)).to_be_visible(timeout=240_000)
    expect(alerts.locator("tbody tr").first).to_be_visible(timeout=240_000)
    assert overview.evaluate("window.same"), "it was loaded anew"
    served.job.wait_for_scores(dict.fromkeys(served.series, TEST))
    overview.reload()
    expect(overview.locator("tbody tr")).to_have_count(3)
    picture(overview, "series")
    overview.fill("#filter", served.series[0])
    expect(overview.locator("tbody tr")).to_have_count(1)


def test_a_series_over_time(served: Served, open_page: Callable[..., Page]) -> None:
    served.job.wait_for_scores(dict.fromkeys(served.series, TEST))
    page = open_page(series_path(served.series[0]))
    drawn(page)
    expect(page.locator("#note")).to_contain_text(f"{TEST} slots")
    assert page.evaluate("document.getElementById('chart').data.length") == 1 + 4 * min(4, channels(page))
    expect(page.locator("#alerts tbody tr").first).to_be_visible()
    picture(page, "one-series")
    before = page.evaluate("document.getElementById('chart').data[0].x.length")
    box = page.locator("#chart .draglayer .xy .nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_url("**from=**")
    page.wait_for_function("n => document.getElementById('chart').data[0].x.length < n", arg=before)
    shown = page.evaluate("document.getElementById('chart').data[0].x.length")
    assert abs(shown / before - 0.2) < 0.05
    assert not page.locator("#follow").is_checked()
    page.reload()  # the address holds the period
    drawn(page)
    assert page.evaluate("document.getElementById('chart').data[0].x.length") == shown
    page.get_by_role("button", name="all").click()
    page.wait_for_function("n => document.getElementById('chart').data[0].x.length === n", arg=before)
    page.locator("#channels summary").click()
    page.locator("#channels input").first.uncheck()
    page.wait_for_function(
        "n => document.getElementById('chart').data.length === n", arg=1 + 4 * (min(4, channels(page)) - 1)
    )


def channels(page: Page) -> int:
    return page.locator("#channels input").count()


def test_scores_come_while_the_series_is_open(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page(series_path(served.series[1]))
    drawn(page)
    last = page.evaluate("document.getElementById('chart').data[0].x.at(-1)")
    with Client(load_settings(served.job.home / "stream-ad.toml")) as client:
        names = page.locator("#channels input").evaluate_all("boxes => boxes.map(box => box.value)")
        for slot in range(TEST, TEST + 100):
            client.publish(served.job.topic, served.series[1], dict.fromkeys(names, 0.0), START_NS + slot * STEP_NS)
    newer = "last => document.getElementById('chart').data[0].x.at(-1) > last"
    page.wait_for_function(newer, arg=last, timeout=240_000)


def test_an_alert_says_what_drives_it(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page("/alerts")
    page.locator("tbody tr", has_text=served.series[0]).get_by_role("link").first.click()
    drawn(page)
    expect(page.locator("#facts")).to_contain_text("Likely since")
    expect(page.locator("#channels tbody tr").first).to_contain_text("%")
    expect(page.locator("#channels tbody tr").first.locator("td")).to_have_count(5)
    assert page.evaluate("document.getElementById('chart').data.length") >= 5
    picture(page, "alert")
    page.locator("#where").click()
    page.wait_for_url("**/series/**from=**")


def test_an_alert_of_another_worker_appears_at_once(
    served: Served, open_page: Callable[..., Page], faults: list[str]
) -> None:
    page = open_page("/alerts")
    expect(page.locator("#live")).to_have_text("live")
    at = START_NS
    made = Alert("e" * 24, AWKWARD, "silent", AlertState.OPEN, at, at, at, None, at, 0.0, at, (), "")
    sink = KafkaSink(KafkaSettings(bootstrap=served.job.kafka, namespace=served.job.namespace))
    sink.write(Outputs(alerts=[made]))
    sink.close()
    expect(page.locator("tr", has_text=AWKWARD).locator(".badge.silent")).to_be_visible(timeout=240_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(served: Served, open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page("/", viewport=PHONE, color_scheme=scheme, has_touch=True)
    for path in ("/", series_path(served.series[0]), "/alerts", "/operations", series_path(AWKWARD)):
        page.goto(served.base + path)
        expect(page.locator("#live")).to_have_text("live")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"], path
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, dark[4:-1].split(","))) < 200) == (scheme == "dark")
    page.goto(served.base + series_path(served.series[0]))
    drawn(page)
    picture(page, f"phone-{scheme}")
    page.get_by_role("button", name="Switch between light and dark").click()
    turned = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert turned != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == turned


def test_by_keyboard_alone(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    expect(page.get_by_role("link", name=AWKWARD, exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    name = page.evaluate("document.activeElement.textContent")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Enter")
    page.wait_for_url("**/series/**")
    expect(page.locator("h1")).to_contain_text(name)


def test_names_of_any_kind(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    page.get_by_role("link", name=AWKWARD, exact=True).click()
    expect(page.locator("h1")).to_contain_text(AWKWARD)
    expect(page.locator("#note")).to_have_text("No scores yet.")
    assert urlsplit(page.url).path.startswith("/series/a/b%20%2520")


def test_operations_and_the_api_s_description(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page("/operations")
    expect(page.locator("#lag tbody tr")).to_have_count(2)
    expect(page.locator("#facts")).to_contain_text("InfluxDB")
    expect(page.locator("#profiles tbody tr").first).to_be_visible()
    page.goto(f"{served.base}/docs")
    expect(page.locator("#swagger")).to_contain_text("/api/v1/series/{series}/scores")


def test_who_signs_out_is_out(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.goto(f"{served.base}/alerts")
    page.wait_for_url("**/login?next=**")
    page.fill("#token", served.link.partition("token=")[2])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/alerts")


def test_the_docs_commands_answer(served: Served) -> None:
    """The lines of docs/page.md, at this page's address; a stream is left after its first event."""
    text = (Path(__file__).parents[2] / "docs" / "page.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (curl .*)$", text, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        command = line.replace("http://127.0.0.1:8080", served.base) + (" | head -1" if " -N " in line else "")
        token = served.link.partition("token=")[2]
        environment = os.environ | {"TOKEN": token}
        shell = ["bash", "-c", f"{command}; true"]
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert "event: hello" in done.stdout or "alerts" in json.loads(done.stdout)
