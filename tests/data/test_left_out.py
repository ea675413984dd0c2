"""A class that is left out of a data set."""

import numpy as np
import pytest

from pyro_gmmvae.data import Dataset
from pyro_gmmvae.errors import GMMVAEError

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 2, -1, 1, 2])


def test_its_rows_have_no_label_and_later_classes_move_up() -> None:
    found = Dataset.of_arrays(X, Y, ["a", "b", "c"]).leaving_out("b")
    assert found.classes == ("a", "c")
    np.testing.assert_array_equal(found.y, [0, -1, 1, -1, -1, 1])
    np.testing.assert_array_equal(found.left_out, [1, 4])
    assert "2 rows of the class 'b' are left out" in found.notes


def test_soft_labels_are_shared_among_the_other_classes() -> None:
    soft = np.full((6, 3), np.nan)
    soft[0], soft[1], soft[4] = [0.5, 0.4, 0.1], [0, 1, 0], [0.3, 0.6, 0.1]
    whole = Dataset(**vars(Dataset.of_arrays(X, Y, ["a", "b", "c"])) | {"soft_labels": soft})
    found = whole.leaving_out("b").soft_labels
    assert found is not None
    np.testing.assert_allclose(found[0], [5 / 6, 1 / 6])
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("bb", "unknown class 'bb'; did you mean 'b'"), ("b", "it is the only one")],
)
def test_there_must_be_such_a_class_and_another(name: str, message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        Dataset.of_arrays(X, np.zeros(6, int), ["b"]).leaving_out(name)
