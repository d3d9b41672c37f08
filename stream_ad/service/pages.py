"""The pages: server-rendered shells that our scripts fill from the API; charts by Plotly."""

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
    context = {"user": request.state.principal, "open": request.app.state.app_state.access.open, **values}
    return _templates.TemplateResponse(request, f"{name}.html", context, status_code=status)


@router.get("/")
def overview(principal: Reader, request: Request) -> HTMLResponse:
    return _page(request, "series_list")


@router.get("/series/{series:path}")
def one_series(principal: Reader, request: Request, series: str) -> HTMLResponse:
    return _page(request, "series", series=series)


@router.get("/alerts")
def alerts(principal: Reader, request: Request) -> HTMLResponse:
    return _page(request, "alerts")


@router.get("/alerts/{alert_id}")
def alert(principal: Reader, request: Request, state: StateDep, alert_id: str) -> HTMLResponse:
    found = state.store.alerts.alert(alert_id)
    if found is None:
        raise HTTPException(404, f"there is no alert {alert_id!r}")
    return _page(request, "alert", alert=found)


@router.get("/operations")
def operations(principal: Reader, request: Request) -> HTMLResponse:
    return _page(request, "operations")


@router.get("/docs")
def docs(principal: Reader, request: Request) -> HTMLResponse:
    return _page(request, "docs")


# ---- sign-in


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:  # the name of the query parameter
    if request.state.principal is not None:
        return RedirectResponse(_own_path(next), 303)
    return _page(request, "login", next=_own_path(next), wrong="")


@router.post("/login")
def login(
    request: Request,
    state: StateDep,
    token: Annotated[str, Form(max_length=1_000)],
    next: Annotated[str, Form(max_length=2_000)] = "/",
) -> Response:
    try:
        user = state.access.by_token(token.strip(), request.client.host if request.client else "?")
    except RefusedError as refusal:
        return _page(request, "login", refusal.status, next=_own_path(next), wrong=refusal.reason)
    request.session["user"] = user.name
    return RedirectResponse(_own_path(next), 303)


@router.post("/logout")
def logout(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/login", 303)


def _own_path(target: str) -> str:
    """The target if it is a path of this site, else "/": no open redirects."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/"


# ---- assets of other packages


@router.get("/static/plotly.js")
def plotly(principal: Reader, request: Request) -> Response:
    headers = {"Cache-Control": f"private, max-age={DAY_S}", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_plotly(), media_type="text/javascript", headers=headers | {"Content-Encoding": "gzip"})
    return Response(gzip.decompress(_plotly()), media_type="text/javascript", headers=headers)


@cache
def _plotly() -> bytes:
    """4.8 MB, compressed once to a third."""
    return gzip.compress(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes(), 6)


@router.get("/static/swagger/{name}")
def swagger(principal: Reader, name: str) -> FileResponse:
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise HTTPException(404, "there is no such file")
    path = Path(str(files("fastapi_offline").joinpath("static", name)))
    return FileResponse(path, headers={"Cache-Control": f"private, max-age={DAY_S}"})
