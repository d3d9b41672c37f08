"""The fast path: the payload's shapes as msgspec types, which msgspec decodes in C."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from stream_ad.errors import ConfigError
from stream_ad.serde.json_lenient import MAX_READING
from stream_ad.settings import Subscription

__all__ = ["typed_decoders"]


def typed_decoders(
    subscription: Subscription, times_field: str | None
) -> tuple[msgspec.json.Decoder[Any] | None, msgspec.json.Decoder[Any] | None]:
    """Decoders of rows (object or array of objects) and of columns; None where only the slow path can parse.

    ConfigError when a field's name cannot name a JSON field.
    """
    if not subscription.values_field:
        return None, None
    number = Annotated[float, msgspec.Meta(ge=-MAX_READING, le=MAX_READING)] | None
    rename = {
        "series": subscription.series_field,
        "time": subscription.time_field,
        "values": subscription.values_field,
    }
    time = int | float | str | None
    try:
        row = msgspec.defstruct(
            "Row",
            [("series", str | None, None), ("time", time, None), ("values", dict[str, number])],
            rename=rename,
            kw_only=True,
        )
        rows: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row | list[row])  # type: ignore[valid-type]
        if times_field is None:
            return rows, None
        column = msgspec.defstruct(
            "Columns",
            [
                ("series", str | None, None),
                ("time", None, None),
                ("times", list[int | float | str]),
                ("values", dict[str, list[number]]),
            ],
            rename=rename | {"times": times_field},
            kw_only=True,
        )
    except ValueError as error:
        raise ConfigError(f"series_field, time_field or values_field cannot name a JSON field: {error}") from error
    return rows, msgspec.json.Decoder(column)
