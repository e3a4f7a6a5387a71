from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from recsys.data.item_dates import came_out, date_column


def day(year: int, month: int = 1, number: int = 1) -> float:
    return datetime(year, month, number, tzinfo=UTC).timestamp()


def items(values: object, name: str = "release_date", available: object = np.nan) -> pd.DataFrame:
    frame = pd.DataFrame({name: values})
    return frame.assign(item_id=[str(i) for i in range(len(frame))], available_from=available)


@pytest.mark.parametrize(
    "values",
    [
        ["2015-07-02", "", None],
        [date(2015, 7, 2), None, None],
        [pd.Timestamp("2015-07-02"), pd.NaT, pd.NaT],
        [day(2015, 7, 2), np.nan, np.nan],
        ["20150702", None, ""],
    ],
)
def test_dates_of_any_form_are_read(values: list[object]) -> None:
    np.testing.assert_array_equal(came_out(items(values)), [day(2015, 7, 2), np.nan, np.nan])


@pytest.mark.parametrize("values", [[1994, 2015], ["1994", "2015"], [1994.0, 2015.0]])
def test_a_year_is_its_first_day(values: list[object]) -> None:
    assert came_out(items(values, "Year")).tolist() == [day(1994), day(2015)]


@pytest.mark.parametrize("values", [["03/04/2015", "05/06/2015"], [True, False], ["soon", "later"], [1, 0]])
def test_what_is_no_date_tells_nothing(values: list[object]) -> None:
    assert np.isnan(came_out(items(values))).all()


def test_available_from_goes_before_and_the_rest_is_filled() -> None:
    frame = items(["2015-07-02", "2016-01-01"], available=[np.nan, day(2017)])
    assert came_out(frame).tolist() == [day(2015, 7, 2), day(2017)]
    assert came_out(items(["red"], "colour", [day(2017)])).tolist() == [day(2017)]


def test_the_likeliest_column_is_read() -> None:
    assert date_column(["item_id", "year", "Release Date", "available_from"]) == "Release Date"
    assert date_column(["item_id", "title", "available_from"]) is None
