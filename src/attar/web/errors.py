"""Errors as clients of the OpenAI API expect them, and as people can read them."""

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from attar.errors import AttarError, printable

logger = logging.getLogger(__name__)

#: status -> what the OpenAI API calls errors of this kind
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every response that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An error with its status.

    Args:
        status: of the response.
        message: one sentence or two.
        param: the field that is wrong.
        code: what a program can tell it by.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        return error_body(self.status, str(self), param=self.param, code=self.code)


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The error object of the OpenAI API."""
    kind = _TYPES.get(status, "invalid_request_error")
    detail = {"message": printable(message), "type": kind, "param": param, "code": code}
    return {"error": detail}


def install(app: FastAPI) -> None:
    """Answer every error with an error object; that of an `AttarError` may have a status, a code
    and a time to wait of its own.
    """

    @app.exception_handler(ApiError)
    def _api(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(AttarError)
    def _attar(request: Request, error: AttarError) -> JSONResponse:
        status, code = getattr(error, "status", 400), getattr(error, "code", None)
        wait = getattr(error, "retry_after", None)
        headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
        return JSONResponse(error_body(status, str(error), code=code), status, headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = _first(error)
        return JSONResponse(error_body(400, message, param=param, code="invalid_value"), 400)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        path = f"{request.method} {request.url.path}"
        said = {
            400: "the body cannot be read as JSON",
            404: f"there is no {path} here",
            405: f"{path} is not possible",
        }
        message = said.get(error.status_code, str(error.detail))
        body = error_body(error.status_code, message)
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def _other(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(500, "the server failed; its log says why"), 500)


def _first(error: RequestValidationError) -> tuple[str, str | None]:
    """The first thing that is wrong, in a sentence, and the field that it is in."""
    first, *others = map(dict, error.errors())
    same = [one for one in others if one["loc"][:2] == first["loc"][:2]]
    # where a field has several forms, an item of a list says more than that it is no text
    one: dict[str, Any] = max((first, *same), key=lambda one: len(one["loc"]))
    if one["type"] == "json_invalid":
        return f"the body is not JSON: {one['ctx']['error']}", None
    places = [str(place) for place in one["loc"][1:] if re.fullmatch(r"\w+", str(place))]
    if not places:
        return "the body must be a JSON object, sent as application/json", None
    kinds = {"str", "int", "float", "bool", "list"}  # branches of a union
    name = ".".join(place for place in places if place not in kinds)
    if one["type"] == "missing":
        return f"{name} is missing; give it", places[0]
    if one["type"] == "extra_forbidden":
        return (
            f"there is no field {name}; leave it out, or see /openapi.json for those there are",
            places[0],
        )
    said = re.sub(r"^(Input|Value|List|String|Dictionary)( error,)?", "", one["msg"]).strip()
    found = repr(one.get("input"))
    found = found if len(found) <= 60 else f"{found[:60]}..."
    return f"{name} {said}; found {found}", places[0]
