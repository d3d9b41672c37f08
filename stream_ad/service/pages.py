"""The pages: server-rendered shells, which scripts of ours fill from the API; the charts are Plotly's."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from stream_ad.service.auth import Reader, RefusedError
from stream_ad.service.dependencies import StateDep

__all__ = ["router"]

HERE = Path(__file__).parent
DAY_S = 86_400
router = APIRouter(include_in_schema=False)
_templates = Jinja2Templates(HERE / "templates")


def _page(request: Request, name: str, status: int = 200, **values: object) -> HTMLResponse:
    context = {"who": request.state.who, "open": request.app.state.app_state.access.open, **values}
    return _templates.TemplateResponse(request, f"{name}.html", context, status_code=status)


@router.get("/")
def overview(who: Reader, request: Request) -> HTMLResponse:
    return _page(request, "series_list")


@router.get("/series/{series:path}")
def one_series(who: Reader, request: Request, series: str) -> HTMLResponse:
    return _page(request, "series", series=series)


@router.get("/alerts")
def alerts(who: Reader, request: Request) -> HTMLResponse:
    return _page(request, "alerts")


@router.get("/alerts/{alert_id}")
def alert(who: Reader, request: Request, state: StateDep, alert_id: str) -> HTMLResponse:
    found = state.store.alerts.alert(alert_id)
    if found is None:
        raise HTTPException(404, f"there is no alert {alert_id!r}")
    return _page(request, "alert", alert=found)


@router.get("/operations")
def operations(who: Reader, request: Request) -> HTMLResponse:
    return _page(request, "operations")


@router.get("/docs")
def docs(who: Reader, request: Request) -> HTMLResponse:
    return _page(request, "docs")


# ---- who is there


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:  # the query's word
    if request.state.who is not None:
        return RedirectResponse(_inside(next), 303)
    return _page(request, "login", next=_inside(next), wrong="")


@router.post("/login")
def login(
    request: Request,
    state: StateDep,
    token: Annotated[str, Form(max_length=1_000)],
    next: Annotated[str, Form(max_length=2_000)] = "/",
) -> Response:
    try:
        who = state.access.by_token(token.strip(), request.client.host if request.client else "?")
    except RefusedError as refusal:
        return _page(request, "login", refusal.status, next=_inside(next), wrong=refusal.reason)
    request.session["user"] = who.name
    return RedirectResponse(_inside(next), 303)


@router.post("/logout")
def logout(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/login", 303)


def _inside(target: str) -> str:
    """A place of ours; anything else would send people elsewhere."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/"


# ---- assets of other packages


@router.get("/static/plotly.js")
def plotly(who: Reader, request: Request) -> Response:
    headers = {"Cache-Control": f"private, max-age={DAY_S}", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_plotly(), media_type="text/javascript", headers=headers | {"Content-Encoding": "gzip"})
    return Response(gzip.decompress(_plotly()), media_type="text/javascript", headers=headers)


@cache
def _plotly() -> bytes:
    """Compressed once: 4.8 MB become a third."""
    return gzip.compress(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes(), 6)


@router.get("/static/swagger/{name}")
def swagger(who: Reader, name: str) -> FileResponse:
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise HTTPException(404, "there is no such file")
    path = Path(str(files("fastapi_offline").joinpath("static", name)))
    return FileResponse(path, headers={"Cache-Control": f"private, max-age={DAY_S}"})
