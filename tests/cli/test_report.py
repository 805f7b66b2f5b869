# SPDX-License-Identifier: MIT
"""orch report: what a plan took, in four forms with the same numbers."""

import csv
import html.parser
import io

import pytest

PLAN = """
[task:first]
command = echo '{"kind":"usage","data":{"input":100,"output":20,"cache_read":7,"cost":0.5}}' >&$ORCH_EVENT_FD; echo '<b>&"' | orch finding --severity=high --title='a <script> & "thing"'; echo x > x
[task:second]
command = echo y > y; exit 3
depends_on = first
retry_max = 1
[task:third]
command = true
depends_on = second, first
"""


@pytest.fixture
def done(repo):
    repo.dispatch(repo.plan(PLAN), status=1)
    return repo


def test_json(done):
    report = done.orch("report", "demo", "--json").json
    assert (report["version"], report["plan"]["name"], report["plan"]["status"]) == (
        1, "demo", "failed")
    totals = report["totals"]
    assert totals["tasks"] == {"passed": 1, "escalated": 1, "pending": 1}
    assert (totals["attempts"], totals["findings"], totals["cost"]) == (3, 1, 0.5)
    assert totals["tokens"] == {"input": 100, "output": 20, "cache_read": 7, "cache_write": 0}
    first, second, third = report["tasks"]
    assert [a["outcome"] for a in second["attempts"]] == ["agent_error", "agent_error"]
    assert first["findings"][0]["severity"] == "high" and third["attempts"] == []
    assert third["depends_on"] == ["first", "second"]
    for task in (first, second):
        for attempt in task["attempts"]:
            assert attempt["ended_at"] >= attempt["started_at"] > 0
            assert attempt["duration_ms"] == attempt["ended_at"] - attempt["started_at"]
    assert totals["agents_ms"] == sum(task["duration_ms"] for task in report["tasks"])


def test_text(done):
    out = done.orch("report").out  # the one plan
    assert out.startswith("plan demo: failed\n")
    assert "tokens: 100 in, 20 out, 7 cache read, 0 cache write; 0.5000 USD" in out
    assert "attempt 2" in out and "finding (high): a <script>" in out


def test_csv(done):
    text = done.orch("report", "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["task"] for row in rows] == ["first", "second", "third"]
    assert (rows[0]["tokens_input"], rows[0]["findings"], rows[0]["cost_usd"]) == (
        "100", "1", "0.500000")
    assert rows[1]["attempts"] == "2" and "status 3" in rows[1]["reason"]
    assert rows[2]["started_at"] == "" and rows[2]["status"] == "pending"


class Page(html.parser.HTMLParser):
    VOID = {"meta", "br", "rect", "line", "path"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.attributes, self.svg, self.text = [], [], [], {}, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag == "svg":
            self.svg[dict(attrs)["id"]] = []
        if self.svg:
            list(self.svg.values())[-1].append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_one_page_that_needs_nothing(done):
    text = done.orch("report", "--html").out
    page = Page(text)
    assert page.open == [] and text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object"} & set(page.seen)
    assert not [a for a in page.attributes if a[1] in ("src", "href") or a[1].startswith("on")]
    assert "url(http" not in text and "@import" not in text
    assert 'a <script> & "thing"' in page.text
    assert page.svg["gantt"].count("rect") == 3  # attempts
    assert page.svg["dag"].count("g") == 3 and page.svg["dag"].count("path") >= 3


def test_before_anything_ran(repo):
    repo.orch("plan", "import", repo.plan(PLAN))
    assert "Nothing has run yet" in repo.orch("report", "--html").out
    assert repo.orch("report", "--json").json["totals"]["attempts"] == 0
    assert "of agents in 0 attempts" in repo.orch("report").out


@pytest.mark.parametrize("args, status", [
    (["nothing"], 66), (["--json", "--csv"], 64), (["a", "b"], 64), (["--xml"], 64)])
def test_what_is_refused(repo, args, status):
    repo.orch("plan", "import", repo.plan(PLAN))
    repo.orch("report", *args, status=status)


def test_where_nothing_was_dispatched(repo):
    repo.orch("report", status=66)
