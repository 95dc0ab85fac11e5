"""The types of the fields of messages, with the contract's rules."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

MAX_BODY_BYTES = 64 * 1024
"""The largest job message that is read."""

# The patterns mean the same to pydantic's engine and to those of JSON Schema (ECMA-262): ASCII only,
# and no line break before the end.
_ACCOUNT = r"[A-Za-z0-9_-][A-Za-z0-9._-]"
_BILL = r"[0-9]{8}_[A-Za-z0-9-]{1,36}\.zip"
_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_DATE = slice(0, 8)


class ContractModel(BaseModel):
    """A JSON object of the contract: frozen, camelCase, unknown fields ignored, no type coerced."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


def bill_date(bill_file_name: str) -> str:
    """The `yyyyMMdd` that a file's name begins with."""
    return bill_file_name[_DATE]


@lru_cache(maxsize=1024)
def _is_calendar_date(date: str) -> bool:
    try:
        datetime(int(date[:4]), int(date[4:6]), int(date[6:]), tzinfo=UTC)
    except ValueError:
        return False
    return True


def _calendar_date(bill_file_name: str) -> str:
    if not _is_calendar_date(bill_date(bill_file_name)):
        raise PydanticCustomError("calendar_date", "the name must begin with a real calendar date")
    return bill_file_name


def _read_rfc3339(moment: object) -> object:
    if not isinstance(moment, str):
        return moment
    try:
        if re.fullmatch(_RFC3339, moment):
            return datetime.fromisoformat(moment)
    except ValueError:
        pass
    raise PydanticCustomError("rfc3339", "must be a real moment in the form 2026-01-31T08:15:00.123Z")


def _in_milliseconds(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _write_rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


AppId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=f"^{_ACCOUNT}*$"),
    Field(
        description="The developer account whose key signs the request: `A-Z a-z 0-9 . _ -`, "
        "not starting with a dot.",
        examples=["app1"],
    ),
]

BillFileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=49, pattern=f"^{_BILL}$"),
    AfterValidator(_calendar_date),
    Field(
        description="A file's name, `yyyyMMdd_{responseId}.zip`; the date must be a real calendar date.",
        examples=["20180702_9239cb50a8384bb0ab503441bf089446.zip"],
    ),
]

FilePath = Annotated[str, StringConstraints(pattern=rf"^{_ACCOUNT}{{0,63}}/[0-9]{{8}}/{_BILL}$")]
"""`{appId}/{yyyyMMdd}/{billFileName}`."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F]*$")]
"""One line: no control characters."""

Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_read_rfc3339),
    AfterValidator(_in_milliseconds),
    PlainSerializer(_write_rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_RFC3339}$"}),
]
"""UTC in milliseconds, so that an event reads back as it was written."""
