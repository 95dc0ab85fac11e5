"""The types that messages are made of, with the contract's rules."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

MAX_BODY_BYTES = 64 * 1024
"""The largest job message that is read."""

_APP_ID = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
_BILL_FILE_NAME = r"^[0-9]{8}_[A-Za-z0-9-]{1,36}\.zip$"
_DATE = slice(0, 8)


class Message(BaseModel):
    """What all messages share: frozen, camelCase on the wire, unknown fields ignored, no type coerced."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


def bill_date(bill_file_name: str) -> str:
    """The `yyyyMMdd` that a file's name begins with."""
    return bill_file_name[_DATE]


def _calendar_date(bill_file_name: str) -> str:
    date = bill_date(bill_file_name)
    try:
        datetime(int(date[:4]), int(date[4:6]), int(date[6:]), tzinfo=UTC)
    except ValueError:
        raise PydanticCustomError("calendar_date", "the name must begin with a real calendar date") from None
    return bill_file_name


def _relative(path: str) -> str:
    if re.search(r"(^|/)\.{1,2}(/|$)", path):
        raise PydanticCustomError("relative_path", "the path must not hold the parts . or ..")
    return path


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


AppId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=_APP_ID),
    Field(description="The developer account whose key signs the request.", examples=["app1"]),
]

BillFileName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=49, pattern=_BILL_FILE_NAME),
    AfterValidator(_calendar_date),
    Field(
        description="A file's name, `yyyyMMdd_{responseId}.zip`; the date must be a real calendar date.",
        examples=["20180702_9239cb50a8384bb0ab503441bf089446.zip"],
    ),
]

RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\x00]+(/[^/\x00]+)*$"),
    AfterValidator(_relative),
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Timestamp = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
