"""The pages and calls of the viewer: only this machine's browser that has the token gets in, and only this study is served."""

import io
import secrets
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy, PellucidError
from pellucid.show.colour import coloured, full_colour
from pellucid.show.figure import palette_of
from pellucid.show.picture import rgb
from pellucid.show.view import on_image_grid, strongest_view
from pellucid.show.viewer.reviews import Reviews
from pellucid.study import Study

__all__ = ["COOKIE", "make_app"]

COOKIE = "pellucid"

_LOCAL = frozenset({"127.0.0.1", "localhost", "testserver"})
_LARGEST = 4 << 20
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def make_app(study: Study, token: str) -> Any:
    """Return the viewer as an ASGI application.

    Parameters
    ----------
    study
        A study with a report.
    token
        Whoever opens ``/?token=...`` gets in; the browser then keeps it as a cookie.

    Raises
    ------
    BadStudy
        When FastAPI is not installed, or the study has no report yet.
    """
    try:
        fastapi: Any = import_module("fastapi")
        responses: Any = import_module("fastapi.responses")
    except ImportError:
        raise BadStudy("pellucid view needs FastAPI: pip install 'pellucid[viewer]'") from None
    if not (study.path / "report.html").is_file():
        raise BadStudy(f"{study.path} has no report yet; run it to the end, then pellucid report {study.path}")
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    reviews = Reviews(study)
    app.middleware("http")(_guarded(token, responses))
    app.exception_handler(PellucidError)(_refused(responses))
    _pages(app, study, responses)
    _rating(app, reviews, fastapi, responses)
    return app


def _guarded(token: str, responses: Any) -> Callable[..., Awaitable[Any]]:
    """Let in only requests to this machine by name that carry the token; a page elsewhere has neither."""

    async def guard(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        given = request.query_params.get("token", "")
        kept = request.cookies.get(COOKIE, "")
        fresh = secrets.compare_digest(given.encode(), token.encode())
        if request.url.hostname not in _LOCAL or not (fresh or secrets.compare_digest(kept.encode(), token.encode())):
            answer = responses.PlainTextResponse("open the address that pellucid view printed", status_code=403)
        elif fresh:
            answer = responses.RedirectResponse(request.url.path, status_code=303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        elif request.method != "GET" and request.headers.get("origin", _own(request)) != _own(request):
            answer = responses.PlainTextResponse("only the viewer's own pages may save", status_code=403)
        else:
            answer = await call_next(request)
        answer.headers.update(_HEADERS)
        return answer

    return guard


def _own(request: Any) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _refused(responses: Any) -> Callable[..., Any]:
    async def refuse(_request: Any, error: PellucidError) -> Any:
        return responses.JSONResponse({"error": str(error)}, status_code=422)

    return refuse


def _pages(app: Any, study: Study, responses: Any) -> None:
    page = (files("pellucid.show") / "static" / "review.html").read_text(encoding="utf-8")

    def report() -> Any:
        return responses.HTMLResponse((study.path / "report.html").read_bytes())

    def review() -> Any:
        return responses.HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    app.add_api_route("/", report)
    app.add_api_route("/review", review)


def _rating(app: Any, reviews: Reviews, fastapi: Any, responses: Any) -> None:
    study = reviews.study

    def _item(code: str) -> Any:
        if code not in reviews.items:
            raise fastapi.HTTPException(404)
        return reviews.items[code]

    def following(rater: str) -> Any:
        item = reviews.following(rater)
        return {"code": None if item is None else item.code, "left": len(reviews.left(rater))}

    def image(code: str) -> Any:
        return responses.Response(_png(_drawn(study, _item(code).image, None)), media_type="image/png")

    def relevance(code: str) -> Any:
        item = _item(code)
        return responses.Response(_png(_drawn(study, item.image, item.method)), media_type="image/png")

    def rate(code: str, rater: str, rating: int, note: str = "", seconds: float = 0.0) -> Any:
        reviews.rate(code, rater, rating, note=note, seconds=seconds)
        return {"saved": True}

    async def mask(request: Any) -> Any:
        if int(request.headers.get("content-length", _LARGEST + 1)) > _LARGEST:
            raise fastapi.HTTPException(413)
        item = _item(request.path_params["code"])
        reviews.save_mask(item.image, request.query_params.get("rater", ""), await request.body())
        return responses.JSONResponse({"saved": True})

    app.add_api_route("/api/next/{rater:path}", following)
    app.add_api_route("/api/image/{code}", image)
    app.add_api_route("/api/map/{code}", relevance)
    app.add_api_route("/api/rating/{code}", rate, methods=["POST"])
    app.add_route("/api/mask/{code}", mask, methods=["PUT"])


def _drawn(study: Study, image: str, method: str | None) -> Any:
    """Return an image, or a method's map of it, as colours ``(Y, X, 3)``: of a volume the plane with most relevance of all maps."""
    x = study.images.tensor([image])
    wanted = (
        [method]
        if method is not None
        else [name for name in study.methods if name.startswith("random_map")] or study.methods[:1]
    )
    values = on_image_grid(study.maps(wanted[0], [image]), x)[0]
    view = strongest_view([np.nan_to_num(values)], study.images.record.spatial)
    if method is None:
        return rgb(view.plane(x[0]), study.images.record.display_range)
    plane = np.nan_to_num(values[view.index] if view.index else values)
    return coloured(plane, full_colour(plane) or 1.0, palette_of(METHODS.parse(method)))


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
