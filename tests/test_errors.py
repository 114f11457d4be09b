from stages.lib.core.errors import UserError


def test_a_users_error_is_its_message() -> None:
    assert str(UserError("params.yaml: epochs\nSet it.")) == "params.yaml: epochs\nSet it."
    assert not issubclass(UserError, (ValueError, OSError))  # which libraries catch
