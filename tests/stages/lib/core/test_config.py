import enum
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
from msgspec import Meta

from stages.lib.core import config
from stages.lib.core.errors import UserError

ROOT = Path(__file__).parents[4]
FILE = "settings.yaml"
GOOD = """\
train:
  optimizer: adam
  learning_rate: 1e-3
  batch_size: 32
  epochs: 5
  dropout: 0.2
  output: logits
  shuffle: true
  channels: [8, 16]
  note: null
"""


SET = "Set it to an allowed value and run again."
QUOTE = "Write it in quotes and run again."
UNQUOTE = "Write the number without quotes and run again."
BRACKET = "Write it in brackets, as in [8], and run again."


class Inner(config.Schema, frozen=True):
    name: str
    size: Annotated[int, Meta(ge=1)]


class Train(config.Schema, frozen=True):
    optimizer: str
    learning_rate: Annotated[float, Meta(gt=0)]
    batch_size: Annotated[int, Meta(ge=1, le=100000)]
    epochs: Annotated[int, Meta(ge=1, le=10000)]
    dropout: Annotated[float, Meta(ge=0, lt=1)]
    output: Literal["logits", "softmax"]
    shuffle: bool
    channels: list[Annotated[int, Meta(ge=1, le=4096)]]
    note: str | None = None


def architecture(
    shape: tuple[int, ...], *, units: Annotated[int, "[1, 9]"], dropout: Annotated[float, "[0, 1)"]
) -> object:
    return shape, units, dropout


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content: str | bytes, file: str = FILE) -> None:
    Path(file).unlink(missing_ok=True)  # some file systems take long to shorten a file
    Path(file).write_bytes(content if isinstance(content, bytes) else content.encode())


def with_line(line: str) -> str:
    """The good file with another value of the key that the line begins with."""
    key = line.partition(":")[0]
    content, count = re.subn(rf"(?m)^  {key}:.*$", f"  {line}", GOOD)
    assert count == 1
    return content


def read_train(content: str | bytes) -> Train:
    write(content)
    return config.section(FILE, "train", Train)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert len(message.splitlines()) == 2, message
    return message


def test_a_section_becomes_a_dataclass_of_typed_values() -> None:
    assert read_train(GOOD) == Train(
        "adam", 0.001, 32, 5, 0.2, "logits", True, channels=[8, 16], note=None
    )


def test_an_optional_key_may_be_left_out() -> None:
    assert read_train(GOOD.replace("  note: null\n", "")).note is None


@pytest.mark.parametrize("written", ["1e-3", "1E-3", "1.e-3", "1.0e-3", ".1e-2", "0.001", "+1e-3"])
def test_a_number_may_be_written_with_an_exponent(written: str) -> None:
    assert read_train(GOOD.replace("1e-3", written)).learning_rate == 0.001


def test_an_integer_is_a_number() -> None:
    dropout = read_train(GOOD.replace("0.2", "0")).dropout
    assert (dropout, type(dropout)) == (0.0, float)


def test_a_mark_of_byte_order_is_no_content() -> None:
    assert read_train(b"\xef\xbb\xbf" + GOOD.encode()).epochs == 5


def test_line_ends_of_windows_are_line_ends() -> None:
    assert read_train(GOOD.replace("\n", "\r\n").encode()).output == "logits"


@pytest.mark.parametrize(
    ("line", "expected", "found", "step"),
    [
        ("epochs: 0", "an integer in [1, 10000]", "0", SET),
        ('epochs: "5"', "an integer in [1, 10000]", "the text '5'", UNQUOTE),
        ("epochs: five", "an integer in [1, 10000]", "the text 'five'", SET),
        ("epochs: 5.0", "an integer in [1, 10000]", "5.0", SET),
        ("epochs: true", "an integer in [1, 10000]", "true", SET),
        ("epochs:", "an integer in [1, 10000]", "nothing", SET),
        ("epochs: [5]", "an integer in [1, 10000]", "[5]", SET),
        ("epochs: {count: 5}", "an integer in [1, 10000]", "a section with count", SET),
        (f"batch_size: {10**30}", "an integer in [1, 100000]", f"1{'0' * 30}", SET),
        ("dropout: 1.0", "a number in [0, 1)", "1.0", SET),
        ("dropout: 1", "a number in [0, 1)", "1", SET),
        ("dropout: -0.0001", "a number in [0, 1)", "-0.0001", SET),
        ("dropout: '0.5'", "a number in [0, 1)", "the text '0.5'", UNQUOTE),
        ("dropout: 0,5", "a number in [0, 1)", "the text '0,5'", SET),
        ("dropout: false", "a number in [0, 1)", "false", SET),
        ("learning_rate: 0", "a number in (0, inf)", "0", SET),
        (f"learning_rate: {10**390}", "a number in (0, inf)", f"1{'0' * 56}...", SET),
        ("shuffle: 1", "true or false", "1", SET),
        ("optimizer: 1", "a text", "1", QUOTE),
        ("optimizer: false", "a text", "false", QUOTE),
        ("note: 1", "a text", "1", QUOTE),
        ("output: false", "one of logits, softmax", "false", SET),
        ("channels: 8", "a list, each an integer in [1, 4096]", "8", BRACKET),
        ("channels:", "a list, each an integer in [1, 4096]", "nothing", SET),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    line: str, expected: str, found: str, step: str
) -> None:
    message = refusal(lambda: read_train(with_line(line)))
    key = line.partition(":")[0]
    assert message == f"settings.yaml: train.{key}: expected {expected}, found {found}.\n{step}"


def test_a_wrong_item_of_a_list_is_counted_from_0() -> None:
    message = refusal(lambda: read_train(with_line("channels: [8, 0]")))
    assert message.startswith("settings.yaml: train.channels[1]: expected an integer in [1, 4096],")


@pytest.mark.parametrize(
    ("output", "step"),
    [
        ("logit", "Did you mean 'logits'?"),
        ("SoftMax", "Did you mean 'softmax'?"),
        ("zzz", "Use one of those and run again."),
    ],
)
def test_a_wrong_word_gets_the_allowed_ones_and_the_nearest(output: str, step: str) -> None:
    message = refusal(lambda: read_train(with_line(f"output: {output}")))
    assert message == (
        f"settings.yaml: train.output: expected one of logits, softmax; found '{output}'.\n{step}"
    )


@pytest.mark.parametrize(
    ("old", "new", "name", "step"),
    [
        ("batch_size:", "batch_sise:", "batch_sise", "Did you mean 'batch_size'?"),
        ("  note:", "  batch_sise: 32\n  note:", "batch_sise", "Did you mean 'batch_size'?"),
        ("  note:", "  7: 32\n  note:", "7", "Use one of those and run again."),
    ],
)
def test_an_unknown_key_gets_the_allowed_ones_and_the_nearest(
    old: str, new: str, name: str, step: str
) -> None:
    message = refusal(lambda: read_train(GOOD.replace(old, new)))
    assert message == (
        f"settings.yaml: train.{name}: unknown key; allowed are optimizer, learning_rate, "
        f"batch_size, epochs, dropout, output, shuffle, channels, note.\n{step}"
    )


def test_a_missing_key_is_named() -> None:
    message = refusal(lambda: read_train(GOOD.replace("  epochs: 5\n", "")))
    assert message == (
        "settings.yaml: train.epochs: this key is missing; found optimizer, learning_rate, "
        "batch_size, dropout, output, shuffle, channels, note.\n"
        "Add 'epochs' and run again; `git diff settings.yaml` shows what changed."
    )


def test_a_missing_section_may_be_a_misspelt_one() -> None:
    message = refusal(lambda: read_train(GOOD.replace("train:", "trian:")))
    assert message == (
        "settings.yaml: train: this key is missing; found trian.\n"
        "Rename 'trian' if it is meant, or add 'train' and run again; "
        "`git diff settings.yaml` shows what changed."
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("train: 5\n", "found 5"),
        ("train:\n", "found nothing"),
        ("train: adam\n", "found the text 'adam'"),
        ("train: [1, 2]\n", "found [1, 2]"),
    ],
)
def test_a_section_that_is_none_is_refused(content: str, found: str) -> None:
    write(content)
    for read in (
        lambda: config.section(FILE, "train", Train),
        lambda: config.fields(FILE, "train", Train),
        lambda: config.arguments(FILE, "train", architecture),
        lambda: config.value(FILE, "train.epochs", int),
        lambda: config.value(FILE, "train.deep.deeper", int),
    ):
        message = refusal(read)
        assert message.startswith("settings.yaml: train: expected a section of keys and values, ")
        assert found in message


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["settings.yaml: expected keys and values, found an empty file", "git checkout"]),
        ("# only a comment\n", ["found an empty file", "git checkout settings.yaml"]),
        ("- 1\n- 2\n", ["expected keys and values, found [1, 2]"]),
        ("adam\n", ["expected keys and values, found the text 'adam'"]),
        ("train:\n\tepochs: 5\n", ["line 2, column 1", "replace the tab by spaces"]),
        ("train:\n  epochs: 5\n\tdropout: 0\n", ["line 3, column 1", "replace the tab by spaces"]),
        ("train: {epochs: 5\n", ["line 2, column 1", "Mend that line"]),
        ("train:\n  epochs: 5: 6\n", ["line 2, column 12", "mapping values are not allowed"]),
        ("train: 'adam\n", ["not valid YAML", "Mend that line"]),
        ("train: *nothing\n", ["line 1, column 8", "undefined alias"]),
        ("train: !!python/object:os.system {}\n", ["line 1", "could not determine a constructor"]),
        ("a: 1\n---\nb: 2\n", ["line 2, column 1", "another document"]),
        ("train:\n  epochs: 5\n  epochs: 6\n", ["line 3, column 3", "'epochs' occurs twice"]),
        ("train:\n  epochs: 5\ntrain: {}\n", ["line 3, column 1", "'train' occurs twice"]),
        ("? [1, 2]\n: 3\n", ["line 1", "unhashable key"]),
        ("train:\n  epochs: \x07\n", ["line 2", "control character 7", "Delete that character"]),
        (b"train: caf\xe9\n", ["settings.yaml: not UTF-8 text", "Save it as UTF-8"]),
        (GOOD.encode("utf-16"), ["settings.yaml: not UTF-8 text", "Save it as UTF-8"]),
        (b"\xff\xfe\x00", ["settings.yaml: not UTF-8 text", "Save it as UTF-8"]),
    ],
)
def test_a_file_that_is_no_yaml_is_refused(content: str | bytes, parts: list[str]) -> None:
    message = refusal(lambda: read_train(content))
    assert message.startswith("settings.yaml: ")
    for part in parts:
        assert part in message


def test_a_missing_file_says_where_stages_run() -> None:
    message = refusal(lambda: config.value("params.yaml", "dataset", str))
    assert message.startswith(f"params.yaml: not found in {Path.cwd()}.\n")
    assert "top folder" in message


def test_anchors_and_merges_of_yaml_work() -> None:
    write("base: &base {units: 3, dropout: 0}\nmlp:\n  <<: *base\n  units: 4\n")
    assert config.arguments(FILE, "mlp", architecture) == {"units": 4, "dropout": 0.0}


def test_a_broken_copy_of_a_file_is_a_users_error_or_read() -> None:
    """Some bytes are left out, some become ones that mean something in YAML."""
    content = GOOD.encode()
    broken = [content[:at] + content[at + 1 :] for at in range(0, len(content), 3)]
    for at in range(1, len(content), 9):
        broken += [content[:at] + bytes([byte]) + content[at + 1 :] for byte in b"\t:-[{'&*!\xff\0"]
    messages = []
    for each in broken:
        try:
            read_train(each)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > len(broken) / 2
    assert {len(message.splitlines()) for message in messages} == {2}


def test_keyword_only_arguments_are_the_schema_of_an_architecture() -> None:
    write("mlp: {units: 3, dropout: 0.5}\n")
    assert config.arguments(FILE, "mlp", architecture) == {"units": 3, "dropout": 0.5}
    write("mlp: {units: 3, dropuot: 0.5}\n")
    message = refusal(lambda: config.arguments(FILE, "mlp", architecture))
    assert message == (
        "settings.yaml: mlp.dropuot: unknown key; allowed are units, dropout.\n"
        "Did you mean 'dropout'?"
    )


def test_an_architecture_without_arguments_has_an_empty_section() -> None:
    def bare(shape: int) -> int:
        return shape

    write("bare: {}\n")
    assert config.arguments(FILE, "bare", bare) == {}
    write("bare: {units: 1}\n")
    message = refusal(lambda: config.arguments(FILE, "bare", bare))
    assert message.endswith("allowed are none.\nDelete it and run again.")


def test_an_argument_that_no_file_can_state_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sized(*, size: int) -> int:
        return size

    def untyped(*, units) -> Any:  # type: ignore[no-untyped-def] # noqa: ANN001
        return units

    def strange(*, units: re.Pattern[str] | bytes | object) -> Any:
        return units

    def unknown(*, units: int) -> int:
        return units

    unknown.__annotations__["units"] = "Nowhere"
    write("made: {}\n")
    for build, says in (
        (sized, "the argument 'size': expected another name, as DVC's run cache passes over"),
        (untyped, "the argument 'units' has no type; expected one such as `units: int`"),
        (strange, "an argument's type that no YAML file can state: "),
        (unknown, "name 'Nowhere' is not defined.\nImport it, or correct the annotation."),
    ):
        monkeypatch.setattr(config, "_announce", lambda *_: pytest.fail("read too early"))
        message = refusal(lambda: config.arguments(FILE, "made", build))  # noqa: B023 called at once
        assert says in message
        assert re.match(rf".*test_config\.py:\d+: {build.__name__}: ", message)


def test_arguments_of_types_that_msgspec_makes_and_yaml_lacks_are_refused() -> None:
    class Kind(enum.Enum):
        ONE = "one"

    def chosen(*, kind: Kind = Kind.ONE) -> Kind:
        return kind

    def several(*, units: set[str]) -> set[str]:
        return units

    def endless(*, most: float = math.inf) -> float:
        return most

    write("made: {}\nlisted: {units: [a, b]}\n")
    for key, build, found in (
        ("made", chosen, "kind: Object of type Kind is not JSON serializable"),
        ("made", endless, "most: Out of range float values are not JSON compliant"),
        ("listed", several, "units: Object of type set is not JSON serializable"),
    ):
        message = refusal(lambda: config.arguments(FILE, key, build))  # noqa: B023 called at once
        assert f"an argument's type that no YAML file can state: {found}" in message


def test_a_default_that_is_a_list_is_of_each_result_alone() -> None:
    def listed(*, units: list[int] = [1]) -> list[int]:  # noqa: B006 as authors write it
        return units

    write("made: {}\n")
    first = config.arguments(FILE, "made", listed)
    first["units"].append(2)
    assert config.arguments(FILE, "made", listed) == {"units": [1]}


def test_fields_leave_other_keys_to_others() -> None:
    class Some(config.Schema, frozen=True):
        epochs: int
        inner: dict[str, Inner]

    write("x: {other: 1, epochs: 2, inner: {a: {name: b, size: 3}}}\n")
    assert config.fields(FILE, "x", Some) == Some(2, {"a": Inner("b", 3)})
    write("x: {other: 1, epochs: 2, inner: {a: {name: b, size: 0}}}\n")
    message = refusal(lambda: config.fields(FILE, "x", Some))
    assert message.startswith("settings.yaml: x.inner.a.size: expected an integer in [1, inf)")
    write("x: {epochs: 2, inner: {a: {name: b}}}\n")
    message = refusal(lambda: config.fields(FILE, "x", Some))
    assert message.startswith("settings.yaml: x.inner.a.size: this key is missing; found name.")
    write("x: {epochs: 2, inner: 5}\n")
    message = refusal(lambda: config.fields(FILE, "x", Some))
    assert message.startswith("settings.yaml: x.inner: expected a section of keys and values")


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1 + 1e-9]),
        ("(0, 1)", [1e-9, 1 - 1e-9], [0, 1]),
        ("[0, inf)", [0, 1e308], [-1e-9, -1.0]),
        ("(-inf, 0]", [-1e308, 0], [1e-9, 1.0]),
    ],
)
def test_intervals_are_those_of_mathematics(
    interval: str, inside: list[float], outside: list[float]
) -> None:
    def made(*, x: float) -> float:
        return x

    made.__annotations__["x"] = Annotated[float, interval]
    for number in inside:
        write(f"made: {{x: {number!r}}}\n")
        assert config.arguments(FILE, "made", made) == {"x": number}
    for number in outside:
        write(f"made: {{x: {number!r}}}\n")
        message = refusal(lambda: config.arguments(FILE, "made", made))
        assert f"made.x: expected a number in {interval}" in message


@pytest.mark.parametrize(
    "text", ["number of heads", "[1; 16]", "[0, 1", "[1,]", "0 to 1", "", "[2, 1]", "{1, 2}"]
)
def test_a_text_that_is_no_interval_is_named_with_its_argument(text: str) -> None:
    def made(*, heads: int = 1) -> int:
        return heads

    made.__annotations__["heads"] = list[Annotated[int, text]]
    message = refusal(lambda: config.arguments_schema(made))
    assert re.match(r".*test_config\.py:\d+: made: the argument 'heads': expected an in", message)
    assert f'found "{text}".\nCorrect it, or leave it out.' in message


def test_a_class_of_fields_is_no_type_of_an_argument() -> None:
    class Block(TypedDict):
        units: Annotated[int, "[1, 4]"]

    def made(*, blocks: list[Block]) -> list[Block]:
        return blocks

    made.__annotations__["blocks"] = list[Block]
    message = refusal(lambda: config.arguments_schema(made))
    assert "blocks: Block, a class of fields.\nUse int, float, bool, str, Literal, lists" in message


def test_lists_and_sections_within_lists_are_told_in_words() -> None:
    def made(*, x: int = 0) -> int:
        return x

    for hint, value, wanted in (
        (
            list[dict[str, int]],
            "{heads: 2}",
            "a list, each a section, each key a text and each value an integer",
        ),
        (
            list[dict[str, int]],
            "[{1: 2}]",
            "a section, each key a text and each value an integer",
        ),
        (tuple[int, float], "[1, 2, 3]", "a list of 2: an integer, a number"),
        (tuple[int, ...], "1", "a list, each an integer"),
        (list[dict[str, Any]], "3", "each key a text and each value any value"),
    ):
        made.__annotations__["x"] = hint
        write(f"made: {{x: {value}}}\n")
        message = refusal(lambda: config.arguments(FILE, "made", made))
        assert f"{wanted}, found " in message


def test_the_nearest_name_is_suggested_whatever_its_case() -> None:
    names = ["digits", "mnist", "fashion_mnist"]
    for wrong, right in (("mnst", "mnist"), ("MNIST", "mnist"), ("fashion-mnist", "fashion_mnist")):
        message = refusal(lambda: config.one_of(wrong, names, "params.yaml: dataset"))  # noqa: B023 called at once
        assert message == (
            "params.yaml: dataset: expected one of digits, fashion_mnist, mnist; "
            f"found '{wrong}'.\nDid you mean '{right}'?"
        )


@pytest.mark.parametrize(
    ("old", "new", "name", "nearest"),
    [
        ("\ntrain:", "\ntrian:", "trian", "train"),
        ("\nplot:", "\nextra: 1\nplot:", "extra", None),
        ("  output:", "  outptu:", "model.outptu", "output"),
        ("\n  mlp:", "\n  mlpp:", "model.mlpp", "mlp"),
    ],
)
def test_a_section_of_params_that_nothing_reads_is_refused(
    old: str, new: str, name: str, nearest: str | None
) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    write(text.replace(old, new), "params.yaml")
    message = refusal(lambda: config.read("params.yaml"))
    assert message.startswith(f"params.yaml: {name}: unknown key; allowed are ")
    assert message.endswith(f"Did you mean '{nearest}'?" if nearest else "run again.")


def test_the_committed_configuration_is_read() -> None:
    for name in ("params.yaml", "datasets.yaml", "weights.yaml", "environment.yaml"):
        write((ROOT / name).read_bytes(), name)
        assert config.read(name)


@pytest.fixture(scope="module")
def reads() -> Iterator[list[tuple[str, str]]]:
    """What was announced since the list was cleared; hooks cannot be removed, only silenced."""
    seen: list[tuple[str, str]] = []
    listening = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "stages.param":
            seen.append((arguments[0], arguments[1]))

    sys.addaudithook(hook)
    yield seen
    listening = False


def test_every_read_is_announced_and_no_check(reads: list[tuple[str, str]]) -> None:
    class Some(config.Schema, frozen=True):
        epochs: int
        dropout: float

    write(GOOD + "mlp: {units: 3, dropout: 0.5}\nsized: {size: 2, in: {nfiles: 1}, sizes: 3}\n")
    for read, announced in (
        (lambda: config.value(FILE, "train.epochs", int), ["train.epochs"]),
        (lambda: config.section(FILE, "train", Train), ["train"]),
        (lambda: config.fields(FILE, "train", Some), ["train.epochs", "train.dropout"]),
        (lambda: config.arguments(FILE, "mlp", architecture), ["mlp"]),
        (
            lambda: config.value(FILE, "sized", dict[str, Any]),
            ["sized", "sized.size", "sized.in.nfiles"],
        ),
        (lambda: config.checked(FILE, "train", Train), []),
    ):
        reads.clear()
        read()
        assert reads == [(FILE, key) for key in announced]


def test_a_key_in_a_list_that_the_run_cache_passes_over_is_refused() -> None:
    write("train: {steps: [{epochs: 1}, {size: 2}]}\n")
    with pytest.raises(UserError, match=r"train\.steps\[1\]\.size: expected another name"):
        config.value(FILE, "train.steps", list[dict[str, int]])


@pytest.mark.parametrize("name", ["size", "nfiles"])
def test_a_name_that_the_run_cache_passes_over_is_refused_where_nothing_helps(name: str) -> None:
    write(f"{name}: 3\n")
    with pytest.raises(UserError, match="run cache passes over keys called"):
        config.value(FILE, name, int)
    namespace: dict[str, Any] = {}
    exec(f"def build(*, {name}: int): ...", namespace)
    with pytest.raises(UserError, match=f"Rename it, to image_{name} say"):
        config.arguments_schema(namespace["build"])


def test_the_order_of_keys_which_dvc_does_not_see_is_one() -> None:
    def architecture(*, units: dict[str, list[dict[str, int]]]) -> None:
        pass

    class Some(config.Schema, frozen=True):
        units: dict[str, Any]

    for text in ("{b: [{d: 4, c: 3}], a: []}", "{a: [], b: [{c: 3, d: 4}]}"):
        write(f"some:\n  units: {text}\n")
        for found in (
            config.read(FILE)["some"]["units"],
            config.value(FILE, "some", dict[str, Any])["units"],
            config.section(FILE, "some", Some).units,
            config.arguments(FILE, "some", architecture)["units"],
        ):
            assert json.dumps(found) == '{"a": [], "b": [{"c": 3, "d": 4}]}'
