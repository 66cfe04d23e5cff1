"""A schema survives JSON and names every number of a row."""

import json

import pytest

from isthmus.data import Schema, schema_from_json
from isthmus.errors import ArtifactError


def test_json_round_trip():
    schema = Schema(
        layout="table",
        shape=(2,),
        dtypes=("Int64", "Float32"),
        container="pandas",
        names=("400.5", "401"),
        natives=("Int64", "float32"),
        labels=(400.5, 401),
    )
    assert schema_from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_feature_names():
    assert Schema(layout="image", shape=(1, 2), dtypes=("uint8",)).feature_names() == ("0,0", "0,1")
    assert Schema(layout="table", shape=(2,), dtypes=("uint8",)).feature_names() == ("0", "1")


def test_a_foreign_schema_is_an_artifact_error():
    with pytest.raises(ArtifactError, match="colour"):
        schema_from_json({"colour": 1})
