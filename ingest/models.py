"""GET /v1/models: what can be asked for."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Depends, Response

from ingest import envelope
from ingest.services import Services
from schemas.config import Model, Principal


def make_router(services: Services) -> APIRouter:
    """The routes under /v1/models."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models(_principal: Principal = Depends(services.authenticate)) -> Response:
        """All models, by name."""
        models = services.config().models
        return _json({"object": "list", "data": [_entry(services, name, m) for name, m in sorted(models.items())]})

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str, _principal: Principal = Depends(services.authenticate)) -> Response:
        """One model, by its name or an alias."""
        config = services.config()
        target = config.aliases.get(name, name)
        model = config.models.get(target)
        if model is None:
            raise envelope.not_found(f"The model `{name}` does not exist.", "model", "model_not_found")
        return _json(_entry(services, target, model))

    return router


def _entry(services: Services, name: str, model: Model) -> dict[str, Any]:
    created = services.follower.published_at // 1000
    return {"id": name, "object": "model", "created": created, "owned_by": "millrace", "embeds": model.embeds}


def _json(data: dict[str, Any]) -> Response:
    return Response(orjson.dumps(data), media_type=envelope.JSON)
