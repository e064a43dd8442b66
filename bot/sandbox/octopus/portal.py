"""A page in the place of Octopus's portal, so that links into it lead somewhere: machines and tasks as they are now."""

from collections.abc import Sequence
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from bot.sandbox.octopus.store import Store
from bot.sandbox.octopus.tasks import TaskQueue

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2b3a}
table{border-collapse:collapse;width:100%;margin:0 0 2rem}td,th{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #dde3ea;vertical-align:top}code{font-size:.85em}tr:target,tr.here{background:#fff6d6}
.Healthy,.Success{color:#0b7a3e}.Unavailable,.Unhealthy,.Failed{color:#b3261e}
"""
_SCRIPT = """
const go=()=>{document.querySelectorAll('.here').forEach(r=>r.classList.remove('here'));
const id=location.hash.split('/').find(p=>document.getElementById(p)&&!p.startsWith('Spaces'));
if(id){const row=document.getElementById(id);row.classList.add('here');row.scrollIntoView({block:'center'})}};
addEventListener('hashchange',go);go();
"""


def portal(store: Store, queue: TaskQueue) -> Route:
    """Return the route of the page; a link such as `/app#/Spaces-1/tasks/ServerTasks-4` marks its row."""

    async def page(request: Request) -> HTMLResponse:
        with store.lock:
            spaces = {i: str(s["Name"]) for i, s in store.spaces.items()}
            machines = [
                (r.id, r.name, spaces[r.space], r.kind.value, r.health, r.thumbprint, r.document["StatusSummary"])
                for r in store.records.values()
            ]
        tasks = [(t.id, t.description, spaces[t.space], t.name, t.state, t.error) for t in queue.listed()[:50]]
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Octopus (sandbox)</title>"
            f"<style>{_STYLE}</style><h1>Octopus Server of the sandbox</h1>"
            "<p>Not the real portal: what its REST API would tell, for links to lead somewhere.</p>"
            + _table(("Machine", "Space", "Kind", "Health", "Thumbprint", "Summary"), machines, state=4)
            + _table(("Task", "Space", "Type", "State", "Error"), tasks, state=4)
            + f"<script>{_SCRIPT}</script></html>"
        )

    return Route("/app", page, methods=["GET"])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, state: int) -> str:
    """Return a table; the first member of a row is its id, the one at `state` gives its colour."""
    head = "".join(f"<th scope=col>{escape(h)}</th>" for h in heads)
    body = "".join(
        f'<tr id="{escape(row[0])}">'
        + "".join(
            f'<td class="{escape(cell)}">{escape(cell)}</td>' if place == state else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
            if place
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
