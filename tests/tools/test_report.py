"""scripts/report.py: its errors, and its page in a real browser. What it tells is tested in test_story.py."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import report
from support.scripts import FAULTS, SESSIONS, generated

from checking.browser import opened
from checking.driver import ROOT, run
from checking.report import EXPORT, IMPORT, MODULES, PARTS

MOST_ELEMENTS = 6_000
"""More than this at once makes a browser slow."""


def reported(script: str, folder: Path, *options: str) -> Path:
    """The report of a run."""
    result = run(script, "--trace", str(folder / "trace"), *options)
    assert result.status == 0, result.stderr
    done = report(folder / "trace", "-o", folder / "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "report.html"


@pytest.fixture(scope="module")
def lesson_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = SESSIONS + "createConnection 0 1\nstabilize\nget 10 password\nprintStore 1\n"
    return reported(script, tmp_path_factory.mktemp("lesson"), "--gossip-interval", "0")


@pytest.fixture
def page(lesson_page: Path, chromium: Any) -> Iterator[Any]:
    with opened(chromium, lesson_page) as page:
        yield page


BUSY = ("--operations", "200", "--keys", "10", "--clients", "6", "--servers", "5", *FAULTS, "--move-every", "12")


@pytest.fixture(scope="module")
def busy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reported(generated(*BUSY), tmp_path_factory.mktemp("busy"), "--gossip-interval", "0")


@pytest.fixture
def busy(busy_run: Path, chromium: Any) -> Iterator[Any]:
    """A page with many processes."""
    with opened(chromium, busy_run) as page:
        page.set_viewport_size({"width": 2000, "height": 1000})
        yield page


def mark(page: Any, text: str, look: str = "") -> Any:
    """The mark of the event that has this text."""
    number = page.evaluate(
        "([text, look]) => run.events.findIndex((event, number) =>"
        " event.text === text && layout.marks.includes(number) && (!look || run.lookOf(event) === look))",
        [text, look],
    )
    assert number >= 0, f"no mark says {text}"
    page.evaluate("number => diagram.goTo(number)", number)
    return page.locator(f'.mark[data-event="{number}"]')


def in_sight(page: Any) -> list[str]:
    """The processes whose lines are visible."""
    shown: list[str] = page.evaluate(
        "[...layout.x].filter(([, x]) => x - diagram.scroller.scrollLeft > 0"
        " && x - diagram.scroller.scrollLeft < diagram.scroller.clientWidth).map(([lane]) => run.processes[lane])"
    )
    return shown


def overlapping(page: Any) -> list[list[str]]:
    """Pairs of labels that cover each other."""
    pairs: list[list[str]] = page.evaluate(
        """() => {
            const labels = [...document.querySelectorAll("#canvas .label")];
            const boxes = labels.map((label) => [label.textContent, label.getBBox()]);
            const meet = (one, other) => one.x < other.x + other.width && other.x < one.x + one.width
                && one.y + 3 < other.y + other.height && other.y + 3 < one.y + one.height;
            return boxes.flatMap(([text, box], index) => boxes.slice(index + 1)
                .filter(([, other]) => meet(box, other)).map(([other]) => [text, other]));
        }"""
    )
    return pairs


def only(page: Any, key: str) -> None:
    """Show one key."""
    page.evaluate("document.getElementById('menu').open = true")
    page.fill("#key", key)


def toggle(page: Any, kind: str) -> None:
    """Show or hide a kind of events."""
    page.evaluate("document.getElementById('menu').open = true")
    page.click(f'[data-kind="{kind}"]')


def table(page: Any) -> list[list[str]]:
    """The stores as they are shown."""
    rows = page.locator("#table tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


# -- without a browser -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "there are no traces in it; they are written by ./master.py --trace {folder}"),
        (lambda folder: folder.write_text(""), "no such folder"),
    ],
    ids=["missing", "empty", "a file"],
)
def test_nothing_to_report_on(make: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path / "trace")
    done = report(tmp_path / "trace", "-o", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'trace'}: {said.format(folder=tmp_path / 'trace')}\n"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("garbage", [b"nonsense", b"\xc1", b"\x94\x01\x02\x03\x04", b"\x94\x01\x80\xa3run\x80" * 2])
@pytest.mark.parametrize("name", ["master.trace", "nobody.trace"])
def test_garbage_is_an_error(garbage: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(garbage)
    done = report(tmp_path, "-o", tmp_path / "report.html")
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {tmp_path}(/{name})?: .*\n", done.stderr)


def test_the_modules_of_the_page_import_what_stands_before_them() -> None:
    """And each import is exported there; no module is forgotten, or longer than a file may be."""
    exported: dict[str, set[str]] = {}
    for name in MODULES:
        source = (PARTS / f"{name}.js").read_text("utf-8")
        assert len(source.splitlines()) <= 500
        for names, module in re.findall(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', source, re.MULTILINE):
            wanted = {one.strip() for one in names.split(",")} - {""}
            assert wanted <= exported.get(module, set()), f"{name}.js imports {wanted} from {module}.js"
        assert len(IMPORT.findall(source)) == source.count("\nimport ") + source.startswith("import ")
        exported[name] = set(EXPORT.findall(source))
    assert {path.stem for path in PARTS.glob("*.js")} == {*MODULES, "d3.v7.9.0.min"}


def test_a_page_that_cannot_be_written(lesson_page: Path, tmp_path: Path) -> None:
    done = report(lesson_page.parent / "trace", "-o", tmp_path / "missing" / "report.html")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {tmp_path / 'missing' / 'report.html'}: No such file or directory\n",
    )


def test_shiviz_alone_writes_no_page(lesson_page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/report.py"), str(lesson_page.parent / "trace"), "--shiviz", "out.log"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["out.log"]


def test_the_title_is_the_names_of_the_scripts(tmp_path: Path) -> None:
    names = ["one.txt", "two & three.txt"]
    for name in names:
        (tmp_path / name).write_text("joinServer 0\n")
    for arguments, title in (
        (names, "one.txt, two &amp; three.txt"),
        ([], "standard input"),
        (["one.txt", "-"], "one.txt, standard input"),
    ):
        command = [sys.executable, str(ROOT / "master.py"), "--trace", "trace", *arguments]
        subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, check=False, capture_output=True)
        assert report(tmp_path / "trace", "-o", tmp_path / "report.html").returncode == 0
        assert f"<title>{title}</title>" in (tmp_path / "report.html").read_text("utf-8")


def test_make_lesson_does_all_of_it(tmp_path: Path) -> None:
    for options, title in (
        (["ARGS=--operations 60 --kill-every 20"], "a random script"),
        (["SCRIPT=examples/tour.txt"], "examples/tour.txt"),
    ):
        done = subprocess.run(
            ["make", "lesson", f"LESSON={tmp_path}/lesson", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"/history is\nvalid: \d+ operations\n", done.stdout)
        files = {path.name for path in (tmp_path / "lesson").iterdir()}
        assert files == {"script", "printed", "history", "trace", "report.html"}
        assert f"<title>{title}</title>" in (tmp_path / "lesson" / "report.html").read_text("utf-8")
    assert (tmp_path / "lesson" / "printed").read_text().startswith("colour:ERR_DEP\n")


# -- in a browser ------------------------------------------------------------------------------------------------


def test_the_page_names_the_run(page: Any) -> None:
    assert page.title() == page.locator("h1").inner_text() == "standard input"
    assert page.locator("h1").get_attribute("title").startswith("./master.py --trace")
    assert page.locator("#summary").inner_text().startswith("2 servers · 2 clients · 6 puts and gets · 1 × ERR_DEP")
    assert page.locator("#heads text").all_text_contents() == [
        "master",
        "client 10",
        "client 11",
        "server 0",
        "server 1",
    ]


def test_a_click_on_an_err_dep_explains_it(page: Any) -> None:
    page.click("#next-dependency")
    said = page.locator("#details").inner_text()
    assert "Client 10 had itself put password = mellon in line 8" in said
    assert "Server 1 had swordfish, put by client 10 in line 5. This value is older, so the server" in said
    assert "different partitions" in said
    assert "line 11" in said
    # and leads to what the session had seen
    page.click("text=what the session had seen")
    assert "put password mellon" in page.locator("#details .big").inner_text()


def test_a_click_on_the_mark_of_an_err_dep_explains_it_as_well(page: Any) -> None:
    mark(page, "get password → ERR_DEP").click()
    assert page.locator("#details .why.dependency").count() == 1
    assert page.locator("#canvas .ring").count() == 1


def test_a_write_is_followed_to_every_server(page: Any) -> None:
    mark(page, "password = swordfish", "put").click()
    way = page.locator("#details .way li").all_inner_texts()
    assert way == ["server 0, put there", "server 1, from server 0"]
    assert page.locator("#canvas path.followed").count() == 1
    assert page.locator(".mark.learnt.on").count() == 1
    assert page.locator("svg.following").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("svg.following").count() == 0
    assert "What this shows" in page.locator("#details").inner_text()


def test_hovering_shows_a_message_and_the_clocks(page: Any) -> None:
    mark(page, "learns password = swordfish")
    number = page.evaluate("run.messages.findIndex((message) => message.writes.length)")
    box = page.locator(f'.reach[data-message="{number}"]').bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip").inner_text()
    assert tip.startswith("pull: answer from server 0 to server 1")
    assert "brings password = swordfish" in tip
    assert re.search(r"sent at [\d.]+ ms, took [\d.]+ (ms|µs)", tip)
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()


def test_hovering_shows_an_event_and_its_clock(page: Any) -> None:
    mark(page, "put 10 password mellon").hover()
    tip = page.locator("#tip").inner_text()
    assert tip.startswith("put 10 password mellon")
    assert "line 8" in tip
    mark(page, "put 10 password mellon").click()
    assert not page.locator("#tip").is_visible()  # what was just clicked is not covered
    raw = page.locator("#details .raw")
    assert "vector clock" not in raw.inner_text()  # unless somebody asks for it
    raw.locator("summary").click()
    assert re.search(r"vector clock of the process\s+master:\s\d+, client\s10:\s\d+", raw.inner_text())


def test_partitions_are_shaded(page: Any) -> None:
    mark(page, "get password → ERR_DEP")
    assert page.locator("#canvas rect.partition").count() == 2
    colours = {shade.get_attribute("fill") for shade in page.locator("#canvas rect.partition").all()}
    assert len(colours) == 2
    assert page.locator("#canvas rect.edge").count() == 2
    assert page.evaluate("layout.y[run.partitions[2][0]]") > 0


PARTED = """\
joinServer 0
joinServer 1
joinServer 2
joinServer 3
breakConnection 0 1
breakConnection 0 2
breakConnection 0 3
breakConnection 1 2
breakConnection 1 3
breakConnection 2 3
createConnection 0 1
createConnection 1 3
breakConnection 0 1
createConnection 1 2
killServer 0
joinServer 0
"""


def test_a_partition_that_goes_on_keeps_its_colour(chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, reported(PARTED, tmp_path, "--gossip-interval", "0")) as page:
        told = page.evaluate("run.partitions.map(([, parts], moment) => [parts, run.colours[moment]])")
        names = page.evaluate("run.processes")
    moments = [
        {"".join(names[server][-1] for server in servers): colour for servers, colour in zip(*moment, strict=True)}
        for moment in told
    ]
    for moment in moments:
        assert len({*moment.values()}) == len(moment)
    parted = next(index for index, moment in enumerate(moments) if set(moment) == {"0", "1", "2", "3"})
    zero, one, two, three = (moments[parted][server] for server in "0123")
    alone = moments[parted + 3]["0"]
    assert moments[parted + 1 :] == [
        {"01": zero, "2": two, "3": three},
        {"013": zero, "2": two},
        {"0": alone, "13": zero, "2": two},
        {"0": alone, "123": zero},
        {"123": zero},
        {"0123": zero},  # server 0 is back
    ]
    assert one != zero


def test_the_slider_shows_each_store_at_any_moment(page: Any) -> None:
    slide = """number => {
        slider.value = layout.marks.indexOf(number);
        slider.dispatchEvent(new Event('input'));
    }"""
    page.evaluate(slide, page.evaluate("layout.marks.at(-1)"))
    assert table(page) == [["key", "server 0", "server 1"], ["password", "mellon", "mellon"]]
    put = page.evaluate("run.events.findIndex(({kind, text}) => kind === 'executed' && text === 'password = mellon')")
    page.evaluate(slide, put)
    assert table(page)[1] == ["password", "mellon", "swordfish (older)"]
    assert page.locator("#table td.behind").all_inner_texts() == ["swordfish (older)"]
    page.evaluate(slide, page.evaluate("put => layout.marks[layout.marks.indexOf(put) - 1]", put))
    assert table(page)[1] == ["password", "swordfish", "swordfish"]
    page.evaluate(slide, 0)
    assert page.locator("#table").inner_text() == "Nothing has been written yet."


def test_the_arrow_keys_go_from_event_to_event(page: Any) -> None:
    mark(page, "put 10 password swordfish").click()
    seen = []
    for _ in range(4):
        page.keyboard.press("ArrowDown")
        seen.append(page.locator("#details .big").inner_text())
    assert seen == ["password = swordfish", "put password swordfish", "stabilize", "learns password = swordfish"]
    page.keyboard.press("ArrowUp")
    assert page.locator("#details .big").inner_text() == "stabilize"


def test_only_events_that_are_drawn_are_stopped_at(page: Any) -> None:
    slider = page.locator("#slider")
    for keys in ([], ["shoesize"]):
        for key in keys:
            only(page, key)
        slider.focus()
        page.keyboard.press("Home")
        stops = []
        for _ in range(page.evaluate("layout.marks.length") - 1):
            page.keyboard.press("ArrowRight")
            stops.append(page.evaluate("diagram.selected"))
        assert stops == page.evaluate("layout.marks.slice(1)")
        assert page.evaluate("slider.value === slider.max")
    page.click("#charts-box summary")
    page.wait_for_selector("#staleness svg")
    box = page.locator("#staleness svg").bounding_box()
    for part in range(2, 9):
        page.mouse.click(box["x"] + box["width"] * part / 10, box["y"] + box["height"] / 2)
        assert page.evaluate("layout.marks.includes(diagram.selected)")


def test_the_stores_are_those_of_the_chosen_moment(page: Any) -> None:
    """This is the last visible event, or the one that was chosen."""
    page.set_viewport_size({"width": 1400, "height": 480})
    page.keyboard.press("Escape")
    page.evaluate("diagram.scroller.scrollTop = 0")
    page.wait_for_function("view.moment === diagram.lastInSight()")
    assert page.locator("#table").inner_text() == "Nothing has been written yet."
    assert "at the last event in sight" in page.locator("#said").inner_text()
    page.evaluate("diagram.scroller.scrollTop = 1e6")
    page.wait_for_function("view.moment === layout.marks.at(-1)")
    assert table(page)[1] == ["password", "mellon", "mellon"]
    mark(page, "password = swordfish", "put").click()
    assert table(page)[1] == ["password", "swordfish", "—"]
    assert re.fullmatch(r"[\d.]+ m?s", page.locator("#moment").inner_text())
    page.evaluate("diagram.scroller.scrollTop = 1e6")
    page.wait_for_timeout(100)
    assert table(page)[1] == ["password", "swordfish", "—"]
    page.keyboard.press("Escape")
    assert table(page)[1] == ["password", "mellon", "mellon"]


def test_filters(page: Any) -> None:
    page.click("#fit")
    count = page.locator(".mark").count
    everything = count()
    only(page, "shoesize")
    assert 0 < count() < everything
    assert "get 10 shoesize" in page.locator(".label").all_text_contents()
    assert "get 10 password" not in page.locator(".label").all_text_contents()
    assert page.locator("#table").inner_text() == "Nothing has been written yet."
    only(page, "")
    assert count() == everything
    page.uncheck('[data-process="client 11"]')
    page.uncheck('[data-process="server 1"]')
    assert page.locator("#heads text").all_text_contents() == ["master", "client 10", "server 0"]
    assert table(page)[0] == ["key", "server 0"]
    page.click("#processes button >> text=all")
    assert count() == everything
    page.click("#menu summary")
    toggle(page, "operations")
    assert page.locator("#canvas .mark.put, #canvas .mark.get").count() == 0
    toggle(page, "operations")
    arrows = page.locator(".message").count()
    toggle(page, "calls")
    assert page.locator(".message").count() > arrows


def test_a_key_that_does_not_exist_is_reported(page: Any) -> None:
    said = page.locator("#no-key")
    assert not said.is_visible()
    only(page, "shoe")
    assert said.is_visible()
    assert said.inner_text() == "no such key"
    only(page, "shoesize")
    assert not said.is_visible()
    only(page, "")
    assert not said.is_visible()


def test_a_choice_that_is_filtered_away_is_dropped(page: Any) -> None:
    text = "get password → ERR_DEP"
    chosen = page.locator("#details .big")
    mark(page, text).click()
    only(page, "password")
    assert chosen.inner_text() == text
    only(page, "shoesize")
    assert chosen.count() == page.locator("#canvas .ring").count() == 0
    assert "What this shows" in page.locator("#details").inner_text()
    only(page, "")
    mark(page, text).click()
    toggle(page, "operations")
    assert chosen.count() == page.locator("svg.following").count() == 0
    toggle(page, "operations")
    mark(page, text).click()
    page.click("#menu summary")
    page.uncheck('[data-process="client 11"]')
    assert chosen.count() == 1
    page.uncheck('[data-process="client 10"]')
    assert chosen.count() == 0


def test_the_menu_closes(page: Any) -> None:
    box = page.locator('[data-process="client 11"]')
    mark(page, "get password → ERR_DEP").click()
    page.click("#menu summary")
    box.uncheck()
    assert box.is_visible()
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert page.locator("#details .big").count() == 1  # Escape does one thing at a time
    page.click("#menu summary")
    assert box.is_visible()
    page.click("#summary")
    assert not box.is_visible()


def test_columns_are_as_wide_as_there_is_room_for(busy: Any) -> None:
    busy.click("#menu summary")
    for name in ("client 1000", "client 1001", "server 0"):
        busy.uncheck(f'[data-process="{name}"]')
    assert len(in_sight(busy)) == 9  # four clients and four servers, at a common size
    assert busy.evaluate("layout.width === diagram.scroller.clientWidth && layout.gap >= 90")
    busy.click("#processes button >> text=all")
    assert "server 0" in in_sight(busy)
    assert busy.evaluate("layout.gap === 90 && layout.width > diagram.scroller.clientWidth")
    busy.click("#menu summary")
    busy.click("#fit")
    assert len(in_sight(busy)) == 12
    heads = busy.locator("#heads text").all_text_contents()
    assert heads[:3] == ["master", "client", "1000"]  # in two lines
    assert heads[-1] == "server 4"
    assert busy.evaluate("layout.width === diagram.scroller.clientWidth")
    busy.set_viewport_size({"width": 3400, "height": 1000})
    busy.wait_for_function("layout.width === diagram.scroller.clientWidth && layout.gap > 120")


def test_an_err_dep_comes_into_sight_with_the_servers_that_were_asked(busy: Any) -> None:
    far = False
    for _ in range(busy.evaluate("run.operations.filter(({outcome}) => outcome === 'ERR_DEP').length")):
        busy.evaluate("diagram.scroller.scrollLeft = 0")
        busy.click("#next-dependency")
        client, *servers = busy.evaluate(
            "(() => { const {client, asked} = run.operations[run.events[diagram.selected].operation];"
            " return [client, ...asked.map(({server}) => server)].map((process) => run.processes[process]); })()"
        )
        assert {client, *servers} <= {*in_sight(busy)}
        far = far or "server 4" in servers
    assert far  # one that was out of sight


@pytest.mark.parametrize(
    ("text", "room", "label"),
    [
        ("get key6 → ERR_DEP", 200, "get key6 → ERR_DEP"),
        ("get a-key-that-is-long → ERR_DEP", 140, "get a-ke…long → ERR_DEP"),
        ("get a-key-that-is-long → ERR_KEY", 60, "ERR_KEY"),
        ("a-key-that-is-long: ERR_DEP", 100, "a-k…ong: ERR_DEP"),
        ("get key6 → ERR_KEY", 20, ""),
        ("learns colour = red", 90, "colour = red"),
        ("put 1000 key1 17hhhhhhhhhhhhhh", 130, "put 1000 key1 17h…hhh"),
        ("link to 3", 200, "link to 3"),
    ],
)
def test_a_label_keeps_what_matters(page: Any, text: str, room: int, label: str) -> None:
    """Fonts differ from machine to machine. Here all letters have the same width."""
    assert page.evaluate("([text, room]) => fitted(text, room, '10px monospace')", [text, room]) == label


def test_outcomes_are_never_cut(busy: Any) -> None:
    cut = re.compile(r"(→|:) (?!ERR_DEP$|ERR_KEY$)E")
    busy.click("#next-dependency")
    labels = busy.locator("#canvas .label.dependency, #canvas .label.missing").all_text_contents()
    assert labels
    assert all(label.endswith(("ERR_DEP", "ERR_KEY")) for label in labels)
    picture = ElementTree.fromstring(busy.evaluate("picture(diagram)"))
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.endswith("→ ERR_DEP") for text in texts)
    assert not [text for text in texts if cut.search(text)]


def test_labels_never_cover_each_other(busy: Any) -> None:
    for control in ("[data-axis=order]", "#fit", "[data-axis=time]", "#in", "#in", "#fit", "#out"):
        busy.click(control)
        assert busy.locator(".label").count() > 5
        assert overlapping(busy) == []
    busy.click("#next-dependency")
    assert busy.locator(".label.dependency.on").count() > 0
    assert overlapping(busy) == []


def test_a_label_does_what_its_mark_does(page: Any) -> None:
    mark(page, "put 10 password mellon")
    label = page.locator(".label", has_text="put 10 password mellon")
    label.hover()
    assert page.locator("#tip").inner_text().startswith("put 10 password mellon")
    label.click()
    assert page.locator("#details .big").inner_text() == "put 10 password mellon"
    assert page.locator("#canvas .ring").count() == 1


def test_a_table_of_many_servers_scrolls(busy: Any) -> None:
    room = "[table.scrollWidth, table.clientWidth]"
    busy.click("#next-dependency")
    busy.set_viewport_size({"width": 1000, "height": 1000})
    wide, seen = busy.evaluate(room)
    assert wide > seen
    busy.set_viewport_size({"width": 2000, "height": 1000})
    wide, seen = busy.evaluate(room)
    assert wide == seen


def test_real_time_and_zoom(page: Any) -> None:
    page.click("[data-axis=time]")
    height = "layout.height"
    first = page.evaluate(height)
    gaps = page.evaluate(
        "[1, 2, 3].map((n) => (layout.y[n] - layout.y[n - 1]) / (run.events[n].time - run.events[n - 1].time))"
    )
    assert max(gaps) == pytest.approx(min(gaps))
    page.click("#in")
    assert page.evaluate(height) > first * 1.4
    page.click("#out")
    assert page.evaluate(height) == pytest.approx(first)
    page.click("#in")
    page.click("#in")
    page.click("#fit")
    assert page.evaluate(height) == pytest.approx(first)
    page.click("[data-axis=order]")
    page.click("#fit")
    assert page.evaluate("layout.height <= diagram.scroller.clientHeight")


@pytest.mark.parametrize("axis", ["order", "time"])
def test_zoom_has_limits(axis: str, busy: Any) -> None:
    shown = "layout.marks.filter((n) => layout.y[n] >= diagram.scroller.scrollTop"
    shown += " && layout.y[n] <= diagram.scroller.scrollTop + diagram.scroller.clientHeight - 46).length"
    busy.click(f"[data-axis={axis}]")
    busy.click("#fit")
    height, total = busy.evaluate("[layout.height, layout.marks.length]")
    farther = "times => { for (let i = 0; i < times; i++) document.getElementById('out').click(); }"
    busy.evaluate(farther, 30)
    assert busy.evaluate("layout.height") == pytest.approx(height)
    assert busy.evaluate(shown) == total
    for _ in range(30):
        busy.click("#in")
        assert busy.evaluate(shown) > 0
    assert busy.evaluate("layout.height") < 8e6 * 1.01
    assert busy.locator(".mark").count() > 0
    # and back, about what was looked at
    busy.evaluate(farther, 60)
    assert busy.evaluate("layout.height") == pytest.approx(height)


def test_a_narrow_window_hides_nothing(busy: Any) -> None:
    busy.set_viewport_size({"width": 600, "height": 900})
    height, seen = busy.evaluate(
        "['scrollHeight', 'clientHeight'].map((size) => document.getElementById('details')[size])"
    )
    assert height == seen  # "What this shows" stands there as a whole
    busy.click("#next-dependency")
    busy.evaluate("document.getElementById('details').scrollTop = 1e6")
    busy.click("#details .raw summary")
    clock = busy.locator("#details .raw dd", has_text="master: ").first
    entries = clock.inner_text().split(", ")
    assert len(entries) > 5
    lines = busy.evaluate(
        """(clock) => {
            const [text, range] = [clock.firstChild, document.createRange()];
            let at = 0;
            return text.data.split(", ").map((entry) => {
                range.setStart(text, at);
                range.setEnd(text, at + entry.length);
                at += entry.length + 2;
                return range.getClientRects().length;
            });
        }""",
        clock.element_handle(),
    )
    assert lines == [1] * len(entries)  # each in one line
    assert busy.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_zoom_is_about_the_chosen_event(busy: Any) -> None:
    place = "layout.y[diagram.selected] - diagram.scroller.scrollTop"
    for axis in ("order", "time"):
        busy.click(f"[data-axis={axis}]")
        busy.click("#next-dependency")
        before = busy.evaluate(place)
        busy.click("#in")
        assert busy.evaluate(place) == pytest.approx(before, abs=2)
        busy.click("#in")
        assert busy.evaluate(place) == pytest.approx(before, abs=2)
    # if it is out of sight, about the middle
    busy.evaluate("diagram.scroller.scrollTop = 0")
    middle = busy.evaluate("diagram.middle()")
    number = busy.evaluate("layout.marks.find((n) => Math.abs(layout.y[n] - diagram.middle()) < 1e-6)")
    busy.click("#in")
    assert busy.evaluate("n => layout.y[n] - diagram.scroller.scrollTop", number) == pytest.approx(middle, abs=2)


def test_plots(page: Any) -> None:
    assert not page.locator("#staleness").count()  # they are folded away at first
    page.click("#charts-box summary")
    said = {}
    for name in ("staleness", "latency", "throughput"):
        box = page.locator(f"#{name} svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
        said[name] = page.locator("#tip").inner_text()
    assert re.search(r"\d+ keys? differing between running servers", said["staleness"])
    assert re.search(r"^(put|get) (password|shoesize): [\d.]+ (ms|µs)\nclient 1[01], at", said["latency"])
    assert re.fullmatch(r"[\d.]+ (µs|m?s) to [\d.]+ (µs|m?s)\n(1 put or get|\d+ puts and gets)", said["throughput"])
    assert re.fullmatch(r"Puts and gets in each [125]0* (µs|ms|second)", page.locator("#throughput h2").inner_text())
    ticks = page.locator("#throughput .tick").all_text_contents()
    assert {"0", "1", "2"} <= {*ticks}
    assert not [tick for tick in ticks if re.fullmatch(r"[\d,]{2,}", tick)]  # no hundreds a second: there were six
    widths = page.evaluate("[0.3, 1, 1.1, 3, 99, 100, 16667, 2e6].map(roundWidth)")
    assert widths == [1, 1, 2, 5, 100, 100, 20_000, 2_000_000]
    box = page.locator("#staleness svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    assert page.locator("#details .big").count() == 1
    far = "(number) => Math.abs(run.events[number].time / run.length - 0.5)"
    chosen, *others = page.evaluate(f"[diagram.selected, ...layout.marks].map({far})")
    assert chosen == pytest.approx(min(others), abs=0.08)  # the plots have margins


def test_a_picture_can_be_saved(page: Any, tmp_path: Path, chromium: Any) -> None:
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "diagram.svg")
    picture = ElementTree.parse(tmp_path / "diagram.svg")
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"server 0", "put 10 password swordfish", "get password → ERR_DEP"} <= {*texts}
    with opened(chromium, tmp_path / "diagram.svg") as shown:
        assert shown.locator(".mark").count() == page.evaluate("layout.marks.length")
        ends = "[...document.querySelectorAll('text')].map((text) => text.getBBox()).map(({x, width}) => x + width)"
        assert max(shown.evaluate(ends)) <= shown.evaluate("document.documentElement.viewBox.baseVal.width")


def test_ten_thousand_events_stay_usable(chromium: Any, tmp_path: Path) -> None:
    script = generated("--operations", "1200", "--servers", "6", "--clients", "8", *FAULTS)
    with opened(chromium, reported(script, tmp_path)) as page:
        assert page.evaluate("run.events.length") > 10_000
        elements = "document.querySelectorAll('#diagram *').length"
        assert page.evaluate(elements) < MOST_ELEMENTS
        for control in ("#fit", "calls", "empty", "[data-axis=time]", "#in", "#in"):
            if control.isalpha():
                toggle(page, control)
            else:
                page.click(control)
            assert 20 < page.evaluate(elements) < MOST_ELEMENTS
        missed = page.evaluate("run.operations.filter(({outcome}) => outcome === 'ERR_DEP').length")
        assert missed > 0
        page.click("#next-dependency")
        assert page.locator("#details .why.dependency").count() == 1
        only(page, "key7")
        assert page.locator("#table tbody tr").count() == 1


def test_keys_and_values_are_only_text(chromium: Any, tmp_path: Path) -> None:
    nasty = "</script><script>console.log('caught')</script><img src=x onerror=alert(1)>"
    script = b"joinServer 0\njoinClient 5 0\n" + b"put 5 " + nasty.replace(" ", "_").encode() + b" {{data}} "
    script += nasty.encode() + b"\nput 5 bytes \xff\xfe\nput 5 \xe2\x82\xac " + "€".encode() * 300 + b"\n"
    path = tmp_path / "report.html"
    run(script, "--trace", str(tmp_path / "trace"))
    assert report(tmp_path / "trace", "-o", path, "--title", "<b>{{scripts}}</b>").returncode == 0
    assert html.escape("<b>{{scripts}}</b>") in path.read_text("utf-8")
    with opened(chromium, path) as page:
        assert page.title() == "<b>{{scripts}}</b>"
        mark(page, "bytes = \\xff\\xfe").click()
        assert nasty in "".join(
            page.locator("#table td button").evaluate_all("cells => cells.map((cell) => cell.title)")
        )
        assert page.locator("img").count() == 0


def test_a_value_that_looks_like_an_answer_is_a_value(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    run("joinServer 0\njoinClient 5 0\nput 5 k x: ERR_DEP\nget 5 k\nget 5 none\n", "--trace", str(tmp_path / "trace"))
    assert report(tmp_path / "trace", "-o", path).returncode == 0
    with opened(chromium, path) as page:
        looks = "run.events.filter(({kind}) => kind === 'executed').map((event) => run.lookOf(event))"
        assert page.evaluate(looks) == ["put", "get", "missing"]


def test_a_run_without_anything(chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, reported("", tmp_path)) as page:
        assert "What this shows" in page.locator("#details").inner_text()
        assert page.locator("#next-dependency").is_disabled()
