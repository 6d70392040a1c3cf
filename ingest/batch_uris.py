"""Whether a tenant may read its batch from, and have it written to, the s3:// URIs it asks for; told at create."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ingest import envelope, input_source
from ingest.receiving import blocking
from ingest.services import Services
from ingest.storage import Denied, Missing, NoBucket, Storage
from schemas import uris
from schemas.uris import Uri

T = TypeVar("T")


async def check_output(services: Services, tenant: str, output_uri: str) -> None:
    """Raises ApiError: 400 for what is no folder, 403 for one that is not the tenant's, 404 without a bucket, 503."""
    if not output_uri:
        return
    place = _allowed(services, tenant, output_uri, "output_uri")
    if not output_uri.endswith("/"):
        raise envelope.invalid("output_uri must end in a slash: the files get their names below it.", "output_uri")
    await _look(services, place, "output_uri", Storage.look)


async def check_input(services: Services, tenant: str, input_uri: str) -> int:
    """Bytes of the input. Raises ApiError: 400 for what is no URI, 403 for one that is not the tenant's, 404 where
    nothing is, 503.
    """
    place = _allowed(services, tenant, input_uri, "input_file_id")
    found = await _look(services, place, "input_file_id", lambda theirs: input_source.objects(theirs, place))
    return sum(piece.size for piece in found)


def _allowed(services: Services, tenant: str, text: str, param: str) -> Uri:
    place = uris.parse(text)
    if place is None:
        raise envelope.invalid(f"{param} must be s3://bucket/key, without empty or relative folders in it.", param)
    settings = services.config().settings.get(tenant)
    prefixes = settings.batch_uris if settings is not None else ()
    # Our own bucket holds every tenant's files: no configuration opens it.
    if place.bucket == services.addresses.bucket or not uris.allowed(place, prefixes):
        where = f"allowed are those below {', '.join(prefixes)}" if prefixes else "none are allowed for this tenant"
        message = f"{place} is not for this tenant's batches: {where}."
        raise envelope.ApiError(403, message, code="uri_not_allowed", param=param, type="permission_error")
    return place


async def _look(services: Services, place: Uri, param: str, look: Callable[[Storage], T]) -> T:
    try:
        return await blocking(look, Storage(services.s3, place.bucket))
    except Missing as error:
        raise envelope.not_found(f"The input cannot be read: {error}.", param) from error
    except NoBucket as error:
        raise envelope.not_found(f"There is no bucket {place.bucket}.", param) from error
    except Denied as error:
        message = f"The platform is not let into {place}: {error}"
        raise envelope.ApiError(403, message, code="uri_access_denied", param=param, type="permission_error") from error
