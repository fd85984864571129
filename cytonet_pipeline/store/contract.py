"""What a table of the store is: columns with type, unit and meaning, and the checks that follow from them.

One pandera schema per table generates the checks, the Parquet schema and the column metadata that Dagster shows.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import StoreError

if TYPE_CHECKING:
    # Imported where they are used: Dagster's definitions read these contracts and load without pandas.
    import pandas as pd
    import pandera.pandas as pa
    import pyarrow

_PANDAS_TYPES = {
    "string": "str",
    "bool": "bool",
    "int32": "int32",
    "int64": "int64",
    "uint64": "uint64",
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
}


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means (with its unit), and what is allowed in it."""

    name: str
    type: str
    meaning: str
    nullable: bool = False
    unique: bool = False
    allowed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def pandas_type(self) -> str:
        """Name of the type in pandas; its integers have no missing values unless they are of another type."""
        return self.type.capitalize() if self.nullable and self.type == "int64" else _PANDAS_TYPES[self.type]

    def checks(self) -> "list[pa.Check]":
        """Return the pandera checks on the values."""
        import pandera.pandas as pa

        checks = []
        if self.allowed:
            checks.append(pa.Check.isin(list(self.allowed)))
        if self.low is not None:
            checks.append(pa.Check.ge(self.low))
        if self.high is not None:
            checks.append(pa.Check.le(self.high))
        return checks


@dataclass(frozen=True)
class Table:
    """A table's columns, and the version of its schema."""

    name: str
    version: int
    columns: tuple[Column, ...]
    rebuilt_by: str

    def pandera(self) -> "pa.DataFrameSchema":
        """Return a schema that coerces the types, refuses other columns and puts them in order."""
        return _pandera(self)

    def arrow(self) -> "pyarrow.Schema":
        """Return the Arrow schema; each field's metadata carries its meaning."""
        import pyarrow

        fields = [
            pyarrow.field(
                c.name, pyarrow.type_for_alias(c.type), nullable=c.nullable, metadata={"description": c.meaning}
            )
            for c in self.columns
        ]
        return pyarrow.schema(fields)

    def validate(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Return `frame` with the contract's types and order of columns.

        Raises
        ------
        StoreError
            A column is missing, unknown, of another type or out of its range.
        """
        import pandera.pandas as pa

        try:
            return self.pandera().validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            cases = error.failure_cases.head(5)[["column", "check", "failure_case"]].to_dict("records")
            raise StoreError(f"table {self.name!r} does not keep its contract: {cases}") from error

    def empty(self) -> "pd.DataFrame":
        """Return the table without rows."""
        import pandas as pd

        return pd.DataFrame({c.name: pd.Series(dtype=c.pandas_type) for c in self.columns})


@cache
def _pandera(table: Table) -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    columns = {
        c.name: pa.Column(c.pandas_type, c.checks(), nullable=c.nullable, unique=c.unique, description=c.meaning)
        for c in table.columns
    }
    return pa.DataFrameSchema(columns, strict=True, coerce=True, ordered=False, name=table.name)
