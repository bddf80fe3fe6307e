"""Which address shows what: each view asks `governance` for plain data and hands it to one template."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from compliance_assets.errors import Misused
from compliance_assets.evidence.alerts import alerts_of, not_counted
from compliance_assets.evidence.provenance import trace
from compliance_assets.governance import definition_history, engineering, health, ledger_view
from compliance_assets.governance.alerts.rules import RULES
from compliance_assets.governance.artefact_view import shown_artefact
from compliance_assets.governance.candidates import answering as answering_now
from compliance_assets.governance.candidates import candidate_at, candidates, fate, latest
from compliance_assets.governance.dashboard.measured import measured
from compliance_assets.governance.dashboard.measures import WINDOW
from compliance_assets.governance.documents import document, documents, filing
from compliance_assets.governance.documents.filing import Filed
from compliance_assets.governance.documents.human_parts import written
from compliance_assets.governance.documents.paper import Paper
from compliance_assets.governance.finding_rows import rows
from compliance_assets.governance.model_card import model_card
from compliance_assets.governance.overview import newest_moment, overview
from compliance_assets.governance.questions.catalogue import QUESTIONS, ask, question
from compliance_assets.governance.release_page import charts_of, release_page
from compliance_assets.governance.runbook import log
from compliance_assets.governance.runbook.plan import runbook
from compliance_assets.governance.runs import run_page
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest
from compliance_assets.web.passkey_views import answering, approving, deciding, enrol
from compliance_assets.web.rendering import PRIVATE, RUN, page
from compliance_assets.web.turns import turn

PER_PAGE = 25
Asked = Mapping[str, str]
View = Callable[[River, Asked, Mapping[str, Any]], Response]


def _head(river: River) -> dict[str, Any]:
    """What stands at the foot of every page: from which ledger it was made."""
    head = river.archive.head()
    return {"ledger_size": head.size, "ledger_root": head.root, "as_of": newest_moment(river)}


def _show(template: str, river: River, common: Mapping[str, Any], **values: Any) -> Response:
    return page(template, **common, **_head(river), **values)


def _asked(asked: Asked, name: str) -> str:
    """A field of a form, after the ? of the address; empty where it was not given."""
    return asked[f"?{name}"].strip()[:200] if f"?{name}" in asked else ""


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise Misused(f"{what} is a number.", rule="address", value=text[:40], remedy="Follow a link to it.")
    return int(text)


def _home(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("home.html", river, common, section="home", **overview(river))


def _review(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    system = asked["system"]
    declared = river.definition(system).system
    one = candidate_at(river, system, _number(asked["index"], "A candidate")) if "index" in asked else latest(river, system)
    about = {"system": system, "title": declared.title, "provider": declared.provider, "purpose": declared.intended_purpose,
             "environment": declared.deployment.environment, "in_force": river.archive.definition_in_force(system),
             "definition": river.definition(system).digest, "demonstration": river.organisation.demonstration}
    if one is None:
        return _show("nothing_yet.html", river, common, section="releases", stages=RIVER, **about)
    shown = release_page(river, one)
    return _show("review.html", river, common, section="releases", **about, **shown, **deciding(river, system, shown, common))


def _model_card(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    one = candidate_at(river, asked["system"], _number(asked["index"], "A candidate"))
    return _show("model_card.html", river, common, section="releases", card=model_card(river, one))


def _releases(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    names = [asked["system"]] if "system" in asked else list(river.systems)
    before = _asked(asked, "before") if "system" in asked else ""
    until = _number(before, "An entry") if before else None
    listed = []
    for name in names:
        river.definition(name)
        state, known = answering_now(river, name), candidates(river, name)
        start = bisect_left(known.tips, -until + 1, key=lambda tip: -tip.index) if until is not None else 0
        shown = known[start:start + PER_PAGE]
        further = shown[-1].index if start + PER_PAGE < len(known) else None
        listed.append((name, [(one, fate(river, one, state), rule_named(one.tip.body.stage)) for one in shown], len(known), start, further))
    return _show("releases.html", river, common, section="releases", systems=listed)


def _dashboard(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    names = [asked["system"]] if "system" in asked else list(river.systems)
    return _show("dashboard.html", river, common, section="dashboard", days=WINDOW.days,
                 shown=[(river.definition(name).system, measured(river, name)) for name in names])


def _alerts(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    listed, waiting = [], []
    for name in river.systems:
        found = alerts_of(river.archive, name)
        open_ones = [one for one in found if not one.closed]
        waiting += open_ones
        listed.append((river.definition(name).system, open_ones, [one for one in found if one.closed], not_counted(river.archive, name)))
    return _show("alerts.html", river, common, section="alerts", systems=listed, rules=RULES, answers=answering(river, waiting, common))


def _run(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("run.html", river, common, section="releases", **run_page(river, asked["run"]))


def _ledger(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    wanted = {name: _asked(asked, name) for name in ("kind", "system", "outcome")}
    before = _asked(asked, "before")
    found, further = ledger_view.lines(river, **wanted, before=_number(before, "An entry") if before else None)
    return _show("ledger.html", river, common, section="ledger", lines=found, further=further, wanted=wanted, kinds=ledger_view.kinds(),
                 systems=river.systems, outcomes=ledger_view.OUTCOMES)


def _entry(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    shown = ledger_view.shown_entry(river, _number(asked["index"], "An entry"))
    stage = shown.record is not None and shown.record.statement.kind == "stage"
    found = rows(shown.record) if stage and shown.record else ()
    charts = charts_of(river, shown.record) if stage and shown.record else ()
    return _show("entry.html", river, common, section="ledger", shown=shown, rows=found, charts=charts,
                 rule=rule_named(shown.record.body.stage) if stage and shown.record else None)


def _envelope(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    entry = river.archive.ledger.entry(_number(asked["index"], "An entry"))
    return Response(entry.body, media_type="application/octet-stream",
                    headers={**PRIVATE, "Content-Disposition": f'attachment; filename="entry-{entry.index}.dsse.json"'})


def _verify(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    with turn("a verification of everything"):
        return _show("verification.html", river, common, section="ledger", found=verify(river.archive))


def _statement(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    found = river.archive.find(Digest.parse(asked["digest"]), "statement")
    if not found:
        raise Misused("No statement in the ledger has this digest.", rule="statement", value=asked["digest"],
                      remedy="Look it up by its index.")
    return RedirectResponse(f"/ledger/{found[-1].index}", status_code=303, headers=PRIVATE)


def _provenance(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    what, until = _asked(asked, "what"), _asked(asked, "as_of")
    found = trace(river.archive, what, _moment(until)) if what else None
    return _show("provenance.html", river, common, section="provenance", what=what, until=until, found=found,
                 points=[(name, [(rule.makes, digest) for rule in RIVER if (digest := river.head(name, rule.makes))])
                         for name in river.systems])


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise Misused(f"{text[:40]!r} is no date.", rule="as of", value=text[:40],
                      remedy="Write it like 2026-11-25 or 2026-11-25T08:30.") from error


def _questions(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    names = [asked["system"]] if "system" in asked else list(river.systems)
    return _show("questions.html", river, common, section="questions", questions=QUESTIONS,
                 systems=[river.definition(name).system for name in names])


def _question(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    number, until, about = question(asked["number"]).number, _asked(asked, "as_of"), _asked(asked, "about")
    found = ask(river, asked["system"], number, as_of=_moment(until), about=about)
    if found.many <= PER_PAGE:
        return _show("question.html", river, common, section="questions", answer=found, until=until, about=about, facts=found.facts)
    before = _asked(asked, "before")
    newest, further = found.newest(_number(before, "An entry") if before else None, PER_PAGE)
    return _show("question.html", river, common, section="questions", answer=found, until=until, about=about, facts=found.single,
                 before=before, newest=newest, further=further)


def _artefact(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("artefact.html", river, common, section="provenance", **shown_artefact(river, Digest.parse(asked["digest"])))


def _definitions(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    systems = [definition_history.brief(river, name) for name in river.systems]
    return _show("definitions.html", river, common, section="definitions", systems=systems,
                 people=definition_history.trust_policies(river), place=approving(river, "", common))


def _definition(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("definition.html", river, common, section="definitions", **definition_history.history(river, asked["system"]),
                 place=approving(river, asked["system"], common))


def _documents(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    listed = []
    for name in river.systems:
        title = river.definition(name).system.title
        try:
            papers = documents(river, name)
            listed.append((name, title, "", papers, written(river, name)[1], _filed(river, name, papers)))
        except Misused as nothing_yet:
            listed.append((name, title, nothing_yet.message, (), (), ([], ())))
    return _show("documents.html", river, common, section="documents", systems=listed)


def _filed(river: River, system: str, papers: Sequence[Paper]) -> tuple[list[tuple[Filed, Sequence[str] | None]], Sequence[Any]]:
    """What was filed, the newest of each document with what one filed now would say otherwise; and what does not count."""
    found, refused = filing.filed(river.archive, system)
    now = {paper.kind: filing.draft_of_paper(paper) for paper in papers}
    newest: set[str] = set()
    said: list[tuple[Filed, Sequence[str] | None]] = []
    for one in found:
        first = one.kind not in newest
        newest.add(one.kind)
        if first and one.kind not in now:
            now[one.kind] = filing.draft(river, one.kind, system)
        said.append((one, filing.differences(one, now[one.kind]) if first else None))
    return said, refused


def _document(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    paper = document(river, asked["kind"], asked["system"], _asked(asked, "release"))
    return _show("document.html", river, common, section="documents", paper=paper)


def _document_json(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return JSONResponse(document(river, asked["kind"], asked["system"], _asked(asked, "release")).as_json(), headers=PRIVATE)


def _runbook(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    found, refused = log.logs(river, asked["system"])
    return _show("runbook.html", river, common, section="documents", book=runbook(river, asked["system"]), logs=found[::-1],
                 refused=refused, lines=log.lines)


def _engineering(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("engineering.html", river, common, section="engineering", systems=[
        (name, river.definition(name).system.title, engineering.timings(river, name), engineering.failures(river, name))
        for name in river.systems])


def _health(river: River, asked: Asked, common: Mapping[str, Any]) -> Response:
    return _show("health.html", river, common, section="health", checks=health.checks(river))


_SYSTEM = r"(?P<system>[a-z][a-z0-9_]{0,62})"
_DIGEST = r"(?P<digest>[0-9a-f]{64})"
VIEWS: tuple[tuple[str, View], ...] = (
    (r"/", _home),
    (rf"/systems/{_SYSTEM}/review", _review),
    (rf"/systems/{_SYSTEM}/candidates/(?P<index>[0-9]{{1,12}})", _review),
    (rf"/systems/{_SYSTEM}/candidates/(?P<index>[0-9]{{1,12}})/card", _model_card),
    (rf"/systems/{_SYSTEM}/releases", _releases),
    (r"/releases", _releases),
    (r"/dashboard", _dashboard),
    (r"/alerts", _alerts),
    (rf"/systems/{_SYSTEM}/dashboard", _dashboard),
    (rf"/runs/(?P<run>{RUN.pattern})", _run),
    (r"/ledger", _ledger),
    (r"/ledger/verification", _verify),
    (r"/ledger/(?P<index>[0-9]{1,12})", _entry),
    (r"/ledger/(?P<index>[0-9]{1,12})/envelope", _envelope),
    (rf"/statements/{_DIGEST}", _statement),
    (r"/provenance", _provenance),
    (r"/questions", _questions),
    (rf"/systems/{_SYSTEM}/questions", _questions),
    (rf"/systems/{_SYSTEM}/questions/(?P<number>E[0-9]{{1,2}})", _question),
    (rf"/artefacts/{_DIGEST}", _artefact),
    (r"/definitions", _definitions),
    (rf"/definitions/{_SYSTEM}", _definition),
    (r"/documents", _documents),
    (rf"/documents/{_SYSTEM}/runbook", _runbook),
    (rf"/documents/{_SYSTEM}/(?P<kind>[a-z-]{{1,32}})", _document),
    (rf"/documents/{_SYSTEM}/(?P<kind>[a-z-]{{1,32}})\.json", _document_json),
    (r"/engineering", _engineering),
    (r"/health", _health),
    (r"/passkeys", enrol),
)
"""Every address, as a pattern that must fit whole; what a part may hold is said here and nowhere else."""
