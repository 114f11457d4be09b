import pytest

from stages.lib import architectures
from stages.lib.core.errors import UserError

pytestmark = pytest.mark.usefixtures("tensorflow")


def test_finds_an_architecture_by_its_file_name() -> None:
    assert architectures.builder("mlp").__module__ == "stages.models.mlp"


def test_an_unknown_name_lists_what_is_there() -> None:
    with pytest.raises(
        UserError, match=r"expected one of cnn, mlp; found 'mpl'.\nDid you mean 'mlp'"
    ):
        architectures.builder("mpl")


def test_arguments_that_do_not_fit_name_their_key() -> None:
    arguments = {"channels": [4, 4], "convolutions": [1], "dropout": 0.0}
    with pytest.raises(UserError, match=r"^params.yaml: model.cnn.convolutions: expected a number"):
        architectures.build("cnn", (8, 8), 10, arguments)
