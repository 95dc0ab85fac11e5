"""Models and JSON Schemas demand the same, and each message reads back as it was written."""

import json
import re
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from pydantic import BaseModel
from pydantic import ValidationError as RefusedError

from schemas import (
    DownloadCompleted,
    DownloadFailed,
    DownloadJob,
    Outcome,
    examples,
    read_outcome,
)
from schemas.documents import MODELS, json_schema
from tests.malformed import MALFORMED
from tests.messages import app_ids, completed, failed, file_names
from worker.core.job import Envelope, read_job


def _pattern(_: object, pattern: str, text: object, __: object) -> Any:
    """In JSON Schema's dialect (ECMA-262) `$` is the very end; in Python's also before a line break."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


ECMA = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
SCHEMAS: dict[type[BaseModel], Any] = {model: ECMA(json_schema(model)) for model in MODELS}
ADDED = {"entries", "entryCount"}
"""Fields that events of the first release do not have."""

OF_STATUS: dict[object, type[BaseModel]] = {"completed": DownloadCompleted, "failed": DownloadFailed}

bodies = (completed | failed).map(lambda outcome: json.loads(outcome.to_json()))

awkward = st.sampled_from(
    ["\n", "\r", "\0", "/", "..", ".", "\\", "%2e", "\u0663", "\uff11", "é", " ", "#", "*"]
)
# Not whole floats: JSON Schema counts 1.0 as an integer, the models do not.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
    | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def bent(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts that were right before a few characters were taken out or put in."""
    return st.builds(
        lambda text, at, out, put: text[:at] + put + text[at + out :],
        texts,
        st.integers(0, 70),
        st.integers(0, 3),
        awkward | st.text(max_size=3),
    )


job_bodies = st.fixed_dictionaries(
    {},
    optional={
        "appId": app_ids | bent(app_ids) | json_values,
        "billFileName": file_names | bent(file_names) | json_values,
        "app_id": app_ids,
        "unknown": json_values,
    },
)


def is_real_date(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return True


@given(job_bodies)
def test_the_schema_and_the_reader_admit_the_same_jobs(fields: dict[str, Any]) -> None:
    admitted = SCHEMAS[DownloadJob].is_valid(fields) and is_real_date(fields["billFileName"])

    job = read_job(Envelope(body=json.dumps(fields).encode()))

    assert (job.request is not None) == admitted


@given(app_ids, file_names)
def test_every_good_job_is_read(app_id: str, bill_file_name: str) -> None:
    job = read_job(Envelope(body=json.dumps({"appId": app_id, "billFileName": bill_file_name}).encode()))

    assert job.request == DownloadJob(app_id=app_id, bill_file_name=bill_file_name)


@pytest.mark.parametrize("name", MALFORMED)
def test_the_schema_refuses_malformed_jobs_except_by_date(name: str) -> None:
    case = MALFORMED[name]
    if case.blames in {"JSON", "bytes"}:
        return
    fields = json.loads(case.body)

    assert not SCHEMAS[DownloadJob].is_valid(fields) or not is_real_date(fields["billFileName"])


@given(completed | failed)
def test_outcomes_satisfy_their_schema_and_read_back_the_same(outcome: Outcome) -> None:
    body = outcome.to_json()

    SCHEMAS[type(outcome)].validate(json.loads(body))
    assert read_outcome(body) == outcome


@given(body=bodies, data=st.data())
def test_the_schema_and_the_reader_admit_the_same_outcomes(body: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(body)))
    replacement = json_values | (bent(st.just(body[name])) if isinstance(body[name], str) else st.nothing())
    body[name] = data.draw(replacement)

    assert is_read(body) == is_admitted(body)


@given(body=bodies, data=st.data())
def test_an_outcome_without_one_of_its_fields_is_none(body: dict[str, Any], data: st.DataObject) -> None:
    del body[data.draw(st.sampled_from(sorted(body.keys() - ADDED)))]

    assert not is_read(body)
    assert not is_admitted(body)


@given(body=completed.map(lambda event: json.loads(event.to_json())))
def test_an_event_of_an_earlier_release_is_read(body: dict[str, Any]) -> None:
    """During a rolling upgrade both kinds lie in the queue."""
    assert is_read({name: value for name, value in body.items() if name not in ADDED})


def is_read(body: dict[str, Any]) -> bool:
    try:
        read_outcome(json.dumps(body).encode())
    except RefusedError:
        return False
    return True


def is_admitted(body: dict[str, Any]) -> bool:
    """By its schema, and by the dates that a schema cannot tell from real ones."""
    status = body.get("status")
    model = OF_STATUS.get(status) if isinstance(status, str) else None
    if model is None or not SCHEMAS[model].is_valid(body):
        return False
    moments_are_real = is_real_moment(body["startedAt"]) and is_real_moment(body["finishedAt"])
    return moments_are_real and (body["billFileName"] is None or is_real_date(body["billFileName"]))


def is_real_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("attempts", "1"),
        ("attempts", True),
        ("sizeBytes", "20480"),
        ("sizeBytes", False),
        ("reused", "false"),
        ("reused", 0),
        ("startedAt", 1_769_847_300),
    ],
)
def test_a_value_of_another_type_is_not_converted(name: str, twin: object) -> None:
    body = {**examples.COMPLETED, name: twin}

    assert not is_read(body)
    assert not is_admitted(body)


def test_the_fields_of_an_outcome_have_no_second_names() -> None:
    fields = DownloadCompleted.model_fields.items()
    body = {name: examples.COMPLETED[str(field.alias)] for name, field in fields}

    assert not is_read(body)
    assert not is_admitted(body)


def test_a_moment_without_a_time_zone_is_none() -> None:
    with pytest.raises(RefusedError, match="startedAt"):
        DownloadFailed.model_validate({**examples.NOT_FOUND, "startedAt": datetime(2026, 1, 31)})  # noqa: DTZ001


def test_an_outcome_does_not_change() -> None:
    outcome = read_outcome(json.dumps(examples.COMPLETED).encode())

    with pytest.raises(RefusedError):
        outcome.attempts = 2  # type: ignore[misc]


@pytest.mark.parametrize("example", [examples.COMPLETED, examples.NOT_FOUND, examples.INVALID])
def test_the_documented_examples_are_written_as_they_stand(example: dict[str, Any]) -> None:
    assert json.loads(read_outcome(json.dumps(example).encode()).to_json()) == example


def test_moments_are_written_in_utc_and_milliseconds() -> None:
    fields = {**examples.COMPLETED, "startedAt": "2026-01-31T09:15:00.123+01:00"}

    assert not is_read(fields)
    assert not is_admitted(fields)
