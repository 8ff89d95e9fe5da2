"""The bill of materials: what it must hold, and that the real one holds it."""

from __future__ import annotations

import json
import subprocess

import pytest

from deploy import bill_of_materials as bills
from tests.support.tools import tool

PINS = {"alpha": "1.0", "beta-gamma": "2.0"}


@pytest.fixture(scope="module")
def bill():
    tool("cyclonedx-py", "the bill of materials")
    return bills.listed()


def component(name: str, version: str, licence: str = "MIT") -> dict[str, object]:
    licences = [{"license": {"id": licence}}] if licence else []
    return {"name": name, "version": version, "licenses": licences}


@pytest.mark.parametrize(
    ("components", "problem"),
    [
        ([component("alpha", "1.0")], "beta-gamma 2.0 is pinned and not listed"),
        (
            [component("alpha", "1.1"), component("Beta_Gamma", "2.0")],
            "alpha is pinned at 1.0 and listed at 1.1",
        ),
        (
            [component("alpha", "1.0", ""), component("beta.gamma", "2.0")],
            "alpha is listed without a licence",
        ),
    ],
)
def test_what_is_missing_is_told(components, problem):
    assert list(bills.problems({"components": components}, PINS)) == [problem]


def test_every_pinned_package_is_listed_with_its_licence(bill):
    assert list(bills.problems(bill, bills.pinned())) == []
    assert bill["metadata"]["component"]["name"] == "maskwire"


def test_the_bill_is_valid_cyclonedx_and_the_validator_finds_what_is_not(bill):
    bills.validate(json.dumps(bill))
    spoilt = {**bill, "components": [*bill["components"], {"name": "without a type"}]}
    with pytest.raises(bills.BillError, match="not valid"):
        bills.validate(json.dumps(spoilt))


def test_the_audit_reads_every_pin(bill):
    # Which asks nobody: the advisory service is out of reach of tests.
    command = [
        str(bills.JUDGES / "pip-audit"),
        "--requirement",
        str(bills.ROOT / "constraints.txt"),
    ]
    options = ["--no-deps", "--disable-pip", "--strict", "--progress-spinner", "off", "--dry-run"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert f"would have audited {len(bills.pinned())} packages" in ran.stderr
