"""The report's page in a real browser, as people meet it: three sizes, light and dark, paper, keyboard alone, a quiz.

What the diagram draws is tested in test_report.py. Faults of layout are looked for by geometry: nothing covers
anything else, and nothing is cut.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import report
from support.scripts import FAULTS, generated

from checking.browser import opened
from checking.driver import ROOT, Conversation, run

SCRIPT = ROOT / "examples" / "2-sessions.txt"
SIZES = {"laptop": (1280, 800), "monitor": (1920, 1080), "telephone": (390, 844)}


def made(folder: Path, *arguments: str | Path) -> Path:
    """A page that scripts/report.py makes."""
    done = report(*arguments, "-o", folder / "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "report.html"


def traced(script: str, folder: Path, *options: str) -> Path:
    """The folder of a trace; the history lies in it as well."""
    result = run(
        script, "--trace", str(folder), "--history", str(folder / "history"), "--gossip-interval", "0", *options
    )
    assert result.status == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced(SCRIPT.read_text(), tmp_path_factory.mktemp("lesson") / "trace", "--no-pipeline")


@pytest.fixture(scope="module")
def lesson(trace: Path) -> Path:
    return made(trace.parent, trace, "--history", trace / "history", "--script", SCRIPT)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    script = generated("--operations", "400", "--keys", "10", "--clients", "4", "--servers", "4", *FAULTS)
    return made(folder, traced(script, folder / "trace", "--no-pipeline"))


@pytest.fixture
def page(lesson: Path, chromium: Any) -> Iterator[Any]:
    with opened(chromium, lesson, viewport={"width": 1280, "height": 800}) as page:
        yield page


def size(name: str) -> dict[str, int]:
    width, height = SIZES[name]
    return {"width": width, "height": height}


def boxes(page: Any, selector: str) -> list[dict[str, Any]]:
    """Where the visible elements are."""
    found: list[dict[str, Any]] = page.evaluate(
        """selector => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility()).map((one) => {
            const {left, right, top, bottom} = one.getBoundingClientRect();
            const name = one.id || one.className.baseVal || one.className || one.textContent;
            return {name, left, right, top, bottom};
        }).filter(({left, right, top, bottom}) => right > left && bottom > top)""",
        selector,
    )
    return found


def assert_apart(found: list[dict[str, Any]]) -> None:
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            apart = (
                one["right"] <= other["left"] + 1
                or other["right"] <= one["left"] + 1
                or one["bottom"] <= other["top"] + 1
                or other["bottom"] <= one["top"] + 1
            )
            assert apart, f"{one} covers {other}"


# -- layout ------------------------------------------------------------------------------------------------------

PARTS = "header, nav, #script, .player, .sight, .stores, aside, footer"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SIZES)
def test_nothing_is_covered_or_cut(name: str, scheme: str, lesson: Path, large: Path, chromium: Any) -> None:
    for path in (lesson, large):
        with opened(chromium, path, viewport=size(name), color_scheme=scheme) as page:
            parts = boxes(page, PARTS)
            assert len(parts) == 8
            assert_apart(parts)
            controls = boxes(page, "nav button, nav input, nav summary, .controls > *")
            assert_apart(controls)
            width, height = SIZES[name]
            assert all(one["left"] >= 0 and one["right"] <= width for one in parts + controls)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            if name != "telephone":
                assert all(one["top"] >= 0 and one["bottom"] <= height for one in parts)
                assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
                # The explanation has the whole height of its side; the diagram has most of the middle.
                assert page.evaluate("details.clientHeight / main.clientHeight > 0.98")
                assert page.evaluate("diagram.scroller.clientHeight / main.clientHeight > 0.35")
            if path == lesson:
                assert page.evaluate("table.scrollWidth <= table.clientWidth")
                assert page.evaluate(
                    "[...table.querySelectorAll('td, th')].every((c) => c.scrollWidth <= c.clientWidth)"
                )
                assert page.evaluate("table.scrollHeight <= table.clientHeight")
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 31)")


def test_folded_parts_open_without_covering_others(page: Any) -> None:
    assert not page.locator("#charts svg").count()
    page.click("#charts-box summary")
    page.wait_for_selector("#staleness svg")
    assert_apart(boxes(page, PARTS))
    page.click("#charts-box summary")
    page.click("#legend summary")
    assert_apart(boxes(page, PARTS))
    legend = page.locator("#legend").inner_text()
    assert {"ERR_KEY: no value", "a server is dead", "around the event that is chosen"} <= {*legend.splitlines()}
    page.click("#menu summary")
    (menu,) = boxes(page, "#menu > div")
    assert menu["left"] >= 0 and menu["right"] <= 1280


def test_one_colour_means_one_thing_in_the_charts(page: Any) -> None:
    page.click("#charts-box summary")
    page.wait_for_selector("#latency svg")
    keys = "[...document.querySelectorAll('#charts h2 i')].map((i) => getComputedStyle(i).backgroundColor)"
    assert len({*page.evaluate(keys)}) == 5
    areas = "[...document.querySelectorAll('#staleness .area')].map((area) => area.getBBox().height)"
    assert page.evaluate(areas) == [pytest.approx(92, abs=1)] * 2  # each for some time; they stand on each other


def axe(page: Any) -> list[str]:
    """The faults that axe finds against WCAG 2.2 AA."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: str, lesson: Path, trace: Path, tmp_path: Path, chromium: Any) -> None:
    pytest.importorskip("axe_playwright_python")
    for name in ("laptop", "telephone"):
        with opened(chromium, lesson, viewport=size(name), color_scheme=scheme) as page:
            assert axe(page) == []
            if name == "laptop":
                page.click("#legend summary")
                page.click("#details .raw summary")
                page.click("[data-view=bars]")
                page.click("#charts-box summary")
                page.click("#menu summary")
                assert axe(page) == []
                page.keyboard.press("Escape")
                page.click("#fit")
                page.click("#predict")
                assert axe(page) == []
    with opened(chromium, made(tmp_path, trace, trace), viewport=size("laptop"), color_scheme=scheme) as page:
        assert axe(page) == []


def test_paper(lesson: Path, chromium: Any) -> None:
    with opened(chromium, lesson, viewport={"width": 702, "height": 1030}) as page:
        printed = page.pdf(prefer_css_page_size=True)
        assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 4
        page.emulate_media(media="print")
        page.wait_for_selector(".sheet")
        for gone in ("nav", ".controls", ".sight", "#charts-box", "#tip"):
            assert not page.locator(gone).is_visible()
        for there in ("h1", "#verdict", "#lines", "#table", "#details .why", "#legend ul", ".sheet"):
            assert page.locator(there).is_visible()
        assert page.locator("#lines li").count() == page.evaluate("run.lines.length")  # all of them
        labels = boxes(page, ".sheet text")
        assert len(labels) > 60
        assert all(one["left"] >= 0 and one["right"] <= 702 for one in labels)
        whole = page.evaluate(
            """[...document.querySelectorAll('.sheet svg')].flatMap((svg) => {
                const own = svg.getBoundingClientRect();
                const texts = [...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect());
                return texts.filter(({bottom}) => bottom > own.top)
                    .map(({top, bottom}) => top >= own.top - 4 && bottom <= own.bottom + 4);
            })"""
        )
        assert all(whole)  # pages break between labels
        heads = page.locator(".sheet thead").evaluate("(head) => getComputedStyle(head).display")
        assert heads == "table-header-group"  # it comes again on each page
        page.emulate_media(media="print", color_scheme="dark")  # paper is white for whoever has a dark screen, too
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen")
        page.wait_for_selector(".sheet", state="detached")


# -- the story ---------------------------------------------------------------------------------------------------


def current(page: Any) -> str:
    text: str = page.locator("#lines .current .text").inner_text()
    return text


def test_it_opens_on_the_first_err_dep(page: Any) -> None:
    assert page.locator("#details .big").inner_text() == "get password → ERR_DEP"
    assert "Client 10 had itself put password = mellon in line 16" in page.locator("#details .why").inner_text()
    assert current(page) == "get 10 password"
    assert (
        "Client 10 is answered ERR_DEP: it has put password = mellon in line 16" in page.locator("#said").inner_text()
    )
    assert page.locator("#canvas .ring").count() == 1
    assert page.locator("#table td.about").all_inner_texts() == ["mellon"]
    comments = page.locator("#lines .comment").all_inner_texts()
    assert any("Bob, client 11, has not seen" in " ".join(comments[at : at + 3]) for at in range(len(comments)))


def test_lines_events_and_cells_choose_each_other(page: Any) -> None:
    page.locator("#lines button", has_text="put 10 password swordfish").click()
    assert page.locator("#details .big").inner_text() == "put password swordfish"
    assert page.locator("#canvas .followed").count() == 1
    assert page.locator("#table td.about").all_inner_texts() == ["swordfish"]
    page.locator("#canvas .mark.learnt").first.click()
    assert current(page) == "stabilize"
    assert page.locator("#said").inner_text() == "Server 1 learns password = swordfish from server 0."
    cells = page.locator("#table td button")
    assert cells.all_inner_texts() == ["swordfish", "swordfish"]
    cells.first.click()
    assert page.locator("#said").inner_text() == "Server 0 stores password = swordfish."
    assert current(page) == "put 10 password swordfish"


def test_lines_in_an_explanation_are_links(page: Any) -> None:
    page.locator("#details .why button", has_text="line 16").click()
    assert page.locator("#details .big").inner_text() == "put password mellon"


def test_keys_work_whatever_has_the_focus(page: Any) -> None:
    said = page.locator("#said")
    page.keyboard.press("Home")
    assert said.inner_text() == "Line 7 starts server 0."
    for focus in ("#fit", "#lines", "#diagram", "#table", "#slider", "#details"):
        page.focus(focus)
        page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    sentences = page.evaluate("layout.marks.map((number) => run.events[number].said)")
    assert said.inner_text() == sentences[5]
    page.keyboard.press("End")
    assert said.inner_text() == sentences[-1]
    page.focus("#search")
    page.keyboard.type("k")
    assert said.inner_text() == sentences[-1]  # a letter is a letter there


def test_the_keyboard_alone_does_all(page: Any) -> None:
    """Tab reaches each part; Enter presses what has the focus."""
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = {"search", "fit", "next-dependency", "predict", "save", "lines", "line", "back", "play", "slider"}
    assert wanted | {"diagram", "table", "cell", "details", "link"} <= reached
    page.locator("#lines .current button").focus()
    for line in ("get 11 password", "get 10 shoesize"):
        page.keyboard.press("n")
        assert current(page) == line
        assert page.evaluate("document.activeElement.closest('li')?.className") == "current"  # the focus goes along
    assert page.locator("#details .big").inner_text() == "get shoesize → ERR_KEY"
    page.keyboard.press("p")
    assert current(page) == "get 11 password"


def test_the_run_is_played(page: Any) -> None:
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-label") == "pause (space)"
    page.wait_for_function("view.moment === layout.marks[2]")  # it goes on by itself
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-label") == "play (space)"
    page.keyboard.press("Space")
    page.keyboard.press("ArrowUp")  # whoever steps has stopped it
    assert page.evaluate("view.beat") is None


def test_reduced_motion_is_respected(lesson: Path, chromium: Any) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        with opened(chromium, lesson, reduced_motion=motion) as page:
            ring = "getComputedStyle(document.querySelector('#canvas .ring')).animationName"
            assert (page.evaluate(ring) != "none") == moves


# -- the verdict -------------------------------------------------------------------------------------------------


def test_the_verdict_stands_on_top(page: Any) -> None:
    said = page.locator("#verdict").inner_text()
    assert said.split("\n\n") == ["✓ valid 24 operations", "The script prints the same, however gossip runs."]


def test_lines_that_show_a_fault_lead_into_the_picture(trace: Path, tmp_path: Path, chromium: Any) -> None:
    lines = (trace / "history").read_text().splitlines()
    number, entry = next((n, json.loads(one)) for n, one in enumerate(lines) if '"ERR_DEP"' in one)
    entry["answer"] = "ERR_KEY"
    entry["server"] = 1
    lines[number] = json.dumps(entry)
    history = tmp_path / "history"
    history.write_text("\n".join(lines) + "\n")
    with opened(chromium, made(tmp_path, trace, "--history", history)) as page:
        assert page.locator("#verdict strong").inner_text() == "✗ invalid"
        page.keyboard.press("Home")
        page.locator("#verdict button", has_text="line 21").click()
        assert current(page) == "get 10 password"


def test_what_the_script_could_print(tmp_path: Path, chromium: Any) -> None:
    script = tmp_path / "script"
    script.write_text("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k v\nget 6 k\n")
    result = run(script.read_text(), "--trace", str(tmp_path / "trace"))
    assert result.status == 0
    with opened(chromium, made(tmp_path, tmp_path / "trace", "--script", script)) as page:
        assert page.locator("#verdict p").inner_text() == "not checked"
        said = page.locator("#verdict summary")
        assert said.inner_text() == "The script can print 2 different outputs, depending on how gossip runs."
        said.click()
        assert re.fullmatch(r"line 6: (v \| ERR_KEY|ERR_KEY \| v)", page.locator("#verdict li").inner_text())
        assert page.locator("#lines .other").inner_text().startswith("can print: ")


@pytest.mark.parametrize("option", ["--history", "--script"])
def test_files_of_another_run_are_an_error(option: str, trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(
        "joinServer 5\n" * 9
        if option == "--script"
        else (
            '{"history": 1}\n{"index": 0, "type": "ok", "process": 10, "f": "put", "value": ["k", "v"], "time": 1,'
            ' "server": 0, "timestamp": 7}\n'
        )
    )
    done = report(trace, option, other, "-o", tmp_path / "p")
    kind = "the script of that run" if option == "--script" else "the history of another run"
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: {other}: this is (not )?{kind}\n", done.stderr)


# -- predict first -----------------------------------------------------------------------------------------------


def test_a_quiz(lesson: Path, chromium: Any) -> None:
    with opened(chromium, lesson, "?quiz", viewport=size("laptop")) as page:
        seen = page.locator("#lines .answer").all_inner_texts()
        assert seen
        assert {*seen} == {"?"}
        comments = " ".join(page.locator("#lines .comment").all_inner_texts())
        assert "Answer: …" in comments
        assert "must not answer her" not in comments + page.locator("#lines").inner_html()
        assert "ERR_DEP" not in " ".join(page.locator("#canvas text").all_text_contents())
        page.keyboard.press("End")
        assert page.evaluate("view.moment === run.operations[run.events[view.moment].operation].command")
        right = 0
        questions = page.evaluate("questionsOf(run).map((number) => answerOf(run.operations[number]))")
        assert questions[:3] == ["ERR_DEP", "swordfish", "ERR_KEY"]
        for number, answer in enumerate(questions):
            assert page.locator("#details .big").inner_text().startswith("What will get ")
            wrong = number == 1
            said = "ERR_KEY" if wrong else answer
            page.locator("#details .choices button", has_text=re.compile(f"^{said}$")).click()
            right += not wrong
            assert page.locator("#details .big").inner_text() == (
                f"No: it printed {answer}" if wrong else f"Right: {answer}"
            )
            assert page.locator("#details .why p").count() >= 1
            page.keyboard.press("Enter")  # the next question, or the score
        assert page.locator("#details .big").inner_text() == f"You foresaw {right} of {len(questions)}."
        page.keyboard.press("Enter")
        assert "?" not in page.locator("#lines .answer").all_inner_texts()
        assert "Answer: …" not in page.locator("#lines .comment").all_inner_texts()
        assert page.locator("#verdict").is_visible()
        assert "quiz" not in page.evaluate("location.href")


def test_gets_that_printed_nothing_are_not_asked_about(tmp_path: Path, chromium: Any) -> None:
    with Conversation("--gossip-interval", "0", "--trace", str(tmp_path / "trace")) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v")
        os.kill(conversation.pids()["server 0"], signal.SIGKILL)
        conversation.do("get 5 k")
    with opened(chromium, made(tmp_path, tmp_path / "trace"), "?quiz") as page:
        assert page.evaluate("run.operations.map(({put, outcome}) => [put, outcome])") == [
            [True, "stored"],
            [False, "unusable"],
        ]
        assert page.locator("#predict").is_disabled()
        assert page.locator("#details .big").inner_text() == "put k v"


def test_a_picture_gives_no_answer_away(tmp_path: Path, chromium: Any) -> None:
    trace = traced("joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 a\nget 5 b\n", tmp_path / "trace")
    with opened(chromium, made(tmp_path, trace), "?quiz") as page:
        page.locator("#details .choices button", has_text="ERR_KEY").click()
        # The server has answered both gets at once, and only the first is known to the reader.
        assert page.evaluate("run.operations[2].asked[0].event < diagram.limit")
        drawn = page.evaluate("picture(diagram)")
        assert "a: ERR_KEY" in drawn and "b: ERR_KEY" not in drawn


# -- large runs --------------------------------------------------------------------------------------------------


def test_from_far_away_events_are_summed_up(large: Path, chromium: Any) -> None:
    with opened(chromium, large, viewport=size("laptop")) as page:
        assert page.locator("#canvas rect.sum").count() == 0
        page.click("#fit")
        assert page.locator("#canvas rect.sum").count() > 50
        assert page.locator("#canvas .mark:not(.killed)").count() == 0
        bars = page.locator("#canvas rect.sum.put").first
        bars.hover()
        assert re.search(r"\d+ puts?", page.locator("#tip").inner_text())
        bars.click()
        assert page.locator("#canvas rect.sum").count() == 0
        assert page.locator("#canvas .mark").count() > 0
        page.click("#fit")
        page.click("#next-dependency")  # what is chosen can be told from others
        assert page.locator("#canvas .label.dependency.on").count() > 0


def test_the_minimap_shows_and_goes(large: Path, chromium: Any) -> None:
    with opened(chromium, large, viewport=size("laptop")) as page:
        page.evaluate("diagram.scroller.scrollTop = 0")
        page.wait_for_function("document.querySelector('.minimap .window').offsetTop === 0")
        (strip,) = boxes(page, ".minimap")
        middle = (strip["left"] + strip["right"]) / 2
        page.mouse.click(middle, strip["bottom"] - 3)
        page.wait_for_function("diagram.scroller.scrollTop + diagram.scroller.clientHeight > layout.height * 0.97")
        page.wait_for_function(  # which follows in a frame of its own
            """height => {
                const {offsetTop, offsetHeight} = document.querySelector('.window');
                return Math.abs(offsetTop + offsetHeight - height) <= 8;
            }""",
            arg=strip["bottom"] - strip["top"],
        )
        red = """() => { const map = document.querySelector('.minimap canvas');
            const {data} = map.getContext('2d').getImageData(0, 0, map.width, map.height);
            let many = 0;
            for (let at = 0; at < data.length; at += 4) many += data[at] === 200 && data[at + 1] === 30;
            return many; }"""
        assert page.evaluate(red) > 0  # ERR_DEPs


def test_search_finds_keys_processes_lines_and_answers(page: Any) -> None:
    for text, said in (
        ("ERR_DEP", "get password → ERR_DEP"),
        ("line 16", "put 10 password mellon"),
        ("shoesize", "get 10 shoesize"),
        ("server 1", "starts empty"),
        ("swordfish", "put 10 password swordfish"),
    ):
        page.keyboard.press("Escape")
        page.fill("#search", text)
        page.press("#search", "Enter")
        assert page.locator("#details .big").inner_text() == said
        assert re.match(r"1 of \d+$", page.locator("#finds").inner_text())
    page.fill("#search", "ERR_DEP")
    page.press("#search", "Enter")
    page.press("#search", "Enter")
    first = page.locator("#details .place").inner_text()
    page.press("#search", "Shift+Enter")
    assert page.locator("#details .place").inner_text() != first
    page.fill("#search", "nowhere to be found")
    assert page.locator("#finds").inner_text() == "nothing"
    assert page.locator("#find-forth").is_disabled()


def test_a_link_leads_to_the_place_and_the_choice(lesson: Path, chromium: Any) -> None:
    with opened(chromium, lesson) as page:
        page.locator("#lines button", has_text="get 10 shoesize").click()
        page.click("[data-view=bars]")
        page.click("[data-axis=time]")
        page.click("#in")
        link = page.evaluate("location.hash.slice(1)")  # `page.url` follows a moment later
        zoom = page.evaluate("layout.zoom")
    with opened(chromium, lesson, f"#{link}") as page:
        assert page.locator("#details .big").inner_text() == "get shoesize → ERR_KEY"
        assert page.evaluate("[layout.view, layout.axis]") == ["bars", "time"]
        assert page.evaluate("layout.zoom") == pytest.approx(zoom, rel=1e-3)
        assert page.locator("[data-view=bars]").get_attribute("aria-pressed") == "true"
    for nonsense in ("#at=99999", "#at=x&view=y&zoom=-1", "#%"):
        with opened(chromium, lesson, nonsense) as page:
            assert page.locator("#lines li").count() > 0


def test_lost_messages_end_in_a_cross(tmp_path: Path, chromium: Any) -> None:
    text = "joinServer 0\njoinServer 1\njoinClient 5 0\n" + "put 5 a 1\nstabilize\n" * 4
    trace = traced(text, tmp_path / "trace", "--loss", "40%", "--seed", "3")
    with opened(chromium, made(tmp_path, trace), viewport=size("monitor")) as page:
        lost = page.evaluate("run.losses.length")
        assert lost > 0
        assert page.evaluate("run.losses.every(({event}) => run.events[event].said.endsWith(' is lost on its way.'))")
        page.evaluate("diagram.goTo(run.losses[0].event)")
        assert page.locator("#canvas .cross").count() > 0
        drawn = page.evaluate("picture(diagram)")
        assert drawn.count('class="cross"') == lost


def test_operations_as_bars(page: Any) -> None:
    page.click("[data-view=bars]")
    assert page.locator("#heads text").all_text_contents() == ["master", "client 10", "client 11"]
    page.evaluate("diagram.scroller.scrollTop = 0; diagram.draw()")
    page.locator("#lines button", has_text="put 10 password mellon").click()
    bar = page.locator(f'#canvas rect.bar[data-event="{page.evaluate("diagram.selected")}"]')
    box = bar.bounding_box()
    begin, end = page.evaluate("(({command, event}) => [layout.y[command], layout.y[event]])(run.operations[1])")
    assert box["height"] == pytest.approx(end - begin, abs=3)
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    assert page.locator("#tip").inner_text().startswith("put password mellon\nclient 10")
    every = page.evaluate("run.operations.length")
    page.click("#fit")
    assert page.locator("#canvas rect.bar").count() == every
    assert_apart(boxes(page, "#canvas rect.bar"))


# -- two runs ----------------------------------------------------------------------------------------------------


def test_two_runs_side_by_side(trace: Path, tmp_path: Path, chromium: Any) -> None:
    text = SCRIPT.read_text().replace("put 10 password mellon", "put 10 password melon", 1)
    other = traced(text, tmp_path / "other", "--no-pipeline")
    with opened(chromium, made(tmp_path, trace, other), viewport=size("laptop")) as page:
        said = page.locator("#verdict").inner_text()
        assert "After line 16, server 0 has password = mellon in A, and has password = melon in B." in said
        assert "Line 16 is put 10 password mellon in A, and put 10 password melon in B." in said
        assert page.locator("#lines .current .text").inner_text() == "put 10 password mellon"
        assert page.locator(".said").all_inner_texts() == [
            "Client 10 is told that password = mellon is stored.",
            "Client 10 is told that password = melon is stored.",
        ]
        page.locator("#lines button", has_text="get 10 shoesize").click()
        assert (
            page.evaluate("views.map(({run, diagram}) => run.events[diagram.selected].text)")
            == ["get shoesize → ERR_KEY"] * 2
        )
        assert "B: password:melon" in page.locator("#lines .differs").all_inner_texts()
        assert_apart(boxes(page, "header, nav, #script, .player, .sight, .stores, footer"))
    with opened(chromium, made(tmp_path, trace, trace), viewport=size("laptop")) as page:
        assert "No difference" in page.locator("#verdict").inner_text()


def test_two_runs_and_what_is_for_one(trace: Path) -> None:
    for more, said in ((["--svg", "-"], "--svg is for one run"), ([str(trace)], "at most two runs")):
        done = report(trace, trace, *more)
        assert done.returncode == 2
        assert said in done.stderr
