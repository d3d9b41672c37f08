"""InfluxDB 2 over HTTP: synchronous writes, queries as CSV, failures mapped to the error tree."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from time import time as now_s
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.csv
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.dialect import Dialect
from urllib3.exceptions import HTTPError

from stream_ad.errors import AccessError, ConfigError, DataError, StreamAdError, UnavailableError
from stream_ad.settings import Settings
from stream_ad_connectors._redaction import keep_out_of_logs
from stream_ad_connectors._tls import client_context, tls_error

__all__ = ["InfluxConnection", "joined"]

_log = logging.getLogger(__name__)
BODY_LINES = 5_000
BODY_CHARS = 4_000_000
_new_dialect: Any = Dialect  # the client is partly typed
_DIALECT = _new_dialect(header=True, delimiter=",", annotations=[], date_time_format="RFC3339Nano")
_NEXT_TABLE = b"\r\n\r\n,result,table,"
_TOO_OLD = re.compile(
    r"partial write: (?:dropped (\d+) points outside|points beyond) retention policy(?: dropped=(\d+))?"
)


class InfluxConnection:
    """Reads and writes one bucket. The token never appears in a message.

    Trap: the client's batching API reports dropped points by callback only and its `flush` does nothing, hence
    SYNCHRONOUS.
    """

    def __init__(self, settings: Settings) -> None:
        influx = settings.influxdb
        for key in ("url", "org", "bucket"):
            if not getattr(influx, key):
                raise ConfigError(f"influxdb.{key} is not set", hint=f"set influxdb.{key}")
        self._url, self._org, self._bucket = influx.url, influx.org, influx.bucket
        tls: Any = {}
        if urlsplit(influx.url).scheme == "https":
            tls = {"ssl_context": client_context("influxdb", influx.ca_file)}
        token = settings.influx_token()
        keep_out_of_logs(token)
        self._client: Any = InfluxDBClient(
            url=influx.url,
            token=token,
            org=influx.org,
            timeout=max(1, int(influx.timeout_s * 1000)),
            **tls,
        )
        self._writer: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._reader = self._client.query_api()
        self.points_too_old = 0

    @property
    def bucket(self) -> str:
        return self._bucket

    def write(self, lines: Iterable[str]) -> None:
        """Durable when it returns. UnavailableError = retry all of them.

        Halving finds a line that the store rejects, and raises it as DataError; the lines before it are written. Points
        older than the bucket's retention are counted and dropped: the store would delete them at once.
        """
        for body in _bodies(lines):
            self._post(body)

    def query(self, flux: str, params: Mapping[str, str | int], columns: Mapping[str, Any]) -> Any:
        """A pyarrow table of `columns` (name -> type), null where a row has no value.

        `params` are bound as Flux variables, never pasted into the text; `bucket` is always one of them.
        Trap: Flux begins a new CSV table, after an empty line, whenever the columns or their order change; so a query
        must not return free text (which may contain empty lines) from tables of several column sets.
        """
        try:
            response = self._reader.query_raw(flux, dialect=_DIALECT, params={"bucket": self._bucket, **params})
            body = response.data
        except (InfluxDBError, HTTPError, OSError) as error:
            raise self._explain(error, "reading from") from error
        tables = [_table(block, columns) for block in _blocks(body)]
        return joined(tables, columns)

    def check(self) -> str:
        """One line on the store. Raises what is wrong with the address, organisation, bucket or the token's rights."""
        self.query("from(bucket: bucket) |> range(start: -1m) |> limit(n: 1)", {}, {"_measurement": pa.string()})
        self._post([""])  # InfluxDB checks the right to write, then accepts an empty body
        return f"InfluxDB at {self._url}: bucket {self._bucket!r} of {self._org!r}"

    def close(self) -> None:
        self._writer.close()
        self._client.close()

    def _post(self, lines: Sequence[str]) -> None:
        try:
            self._writer.write(bucket=self._bucket, org=self._org, record="\n".join(lines).encode())
        except InfluxDBError as error:
            status, text = _status(error), str(error.message)
            too_old = _TOO_OLD.search(text) if status == 422 else None
            if too_old:
                self.points_too_old += int(too_old[1] or too_old[2] or 1)
                _log.warning("InfluxDB dropped points older than the retention of bucket %r", self._bucket)
            elif status in (400, 413, 422):
                self._halve(lines, text)
            else:
                raise self._explain(error, "writing to") from error
        except (HTTPError, OSError) as error:
            raise self._explain(error, "writing to") from error

    def _halve(self, lines: Sequence[str], text: str) -> None:
        if len(lines) == 1:
            raise DataError(f"InfluxDB rejected a line: {text[:300]}; the line: {lines[0][:1000]}")
        middle = len(lines) // 2
        self._post(lines[:middle])
        self._post(lines[middle:])

    def _explain(self, error: BaseException, doing: str) -> StreamAdError:
        what = f"{doing} InfluxDB at {self._url}"
        status = _status(error) if isinstance(error, InfluxDBError) else 0
        if not isinstance(error, InfluxDBError) or not status:  # the client reports a failed handshake as status 0
            return _tls_failure(error, f"InfluxDB at {self._url}") or UnavailableError(
                f"{what}: no answer ({type(error).__name__})", hint="is it running and influxdb.url right?"
            )
        text = str(error.message).strip()[:300]
        if status in (401, 403):
            verb = "write" if doing.startswith("writing") else "read"
            refusal = "the token is not accepted" if status == 401 else f"the token may not {verb}"
            return AccessError(
                f"{what}: {status}, {refusal} (bucket {self._bucket!r} of {self._org!r})",
                hint="set STREAM_AD__INFLUXDB__TOKEN to a token that may read and write the bucket",
            )
        if status == 400 and "HTTPS server" in text:
            return ConfigError(f"{what}: it speaks TLS", hint="set influxdb.url to https://...")
        if status == 404 or (status == 400 and "not found" in text):
            return ConfigError(
                f"{what}: {text or 'not found'} (organisation {self._org!r}, bucket {self._bucket!r})",
                hint="set influxdb.org and influxdb.bucket to ones that exist and that the token may see",
            )
        if status == 429 or status >= 500:
            return UnavailableError(f"{what}: {status} {text}", retry_after_s=_retry_after(error))
        return StreamAdError(f"{what}: {status} {text}")


def _tls_failure(error: BaseException, server: str) -> AccessError | None:
    """The error for a failed TLS handshake, found below all exceptions that wrap it; None when there is none."""
    waiting: list[object] = [error]
    seen: list[object] = []
    while waiting:
        one = waiting.pop()
        if isinstance(one, ssl.SSLError):
            return tls_error(one, server, "influxdb")
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [getattr(one, "reason", None), one.__context__, *one.args]
    return None


def _blocks(body: bytes) -> list[bytes]:
    """The CSV tables of a response, each with its header."""
    blocks = [body]
    if body.count(b"\n,result,table,"):
        blocks = [part if not k else b",result,table," + part for k, part in enumerate(body.split(_NEXT_TABLE))]
    return [block for block in blocks if block.strip()]


def joined(tables: Sequence[Any], columns: Mapping[str, Any]) -> Any:
    """One pyarrow table. Trap: `Schema.empty_table` would import pandas."""
    return pa.concat_tables(tables) if tables else pa.Table.from_batches([], pa.schema(list(columns.items())))


def _table(block: bytes, columns: Mapping[str, Any]) -> Any:
    header = block.lstrip().partition(b"\n")[0].strip()
    if header.startswith(b"error,") or b",error,reference" in header:
        raise StreamAdError(f"InfluxDB stopped a query: {block.decode(errors='replace').strip()[:300]}")
    return pa.csv.read_csv(
        pa.BufferReader(block),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict(columns),
            include_columns=list(columns),
            include_missing_columns=True,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )


def _status(error: InfluxDBError) -> int:
    return int(getattr(error, "status", None) or getattr(error.response, "status", None) or 0)


def _retry_after(error: InfluxDBError) -> float | None:
    """Seconds; the header contains them, or a date."""
    text = str(error.retry_after or "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s())
    except ValueError:
        return None


def _bodies(lines: Iterable[str]) -> Iterator[list[str]]:
    body: list[str] = []
    size = 0
    for line in lines:
        body.append(line)
        size += len(line)
        if len(body) >= BODY_LINES or size >= BODY_CHARS:
            yield body
            body, size = [], 0
    if body:
        yield body
