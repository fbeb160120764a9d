"""Whatever is sent to the addresses that OpenAPI describes: never a status of 500, and always what is described."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import SlowModel, served

from naturelm.serve.options import Limits, ServeOptions


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    with served(SlowModel(), ServeOptions(limits=Limits(new_tokens=8))) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


# What the schema allows is refused all the same where an id is given twice, or the version is another.
def test_what_is_sent_gets_what_is_described(described: Any) -> None:
    tried = []
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def send(case: Any) -> None:
            case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

        send()
        tried.append(operation.label)
    assert {"GET /health", "GET /info", "POST /predict"} <= set(tried)
