"""Keys: whatever is wrong around one, no message, note or redacted text has it."""

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import parse_spec, redact_text, validate
from tests.spec.samples import FASTER, MASK

KEY = "hunter2hunter2"

WRONG = [
    f"enc_key: {KEY}",
    f"enc_key: {KEY} {KEY}",
    f"enc_key: {KEY}:{KEY}",
    f"enc_key: {KEY}}}{KEY}",
    f"enc_key: {KEY}#{KEY}",
    f"enc_key: {KEY}==",
    f"enc_key: s3://{KEY}",
    f"enc_key: 7{KEY}",
    f"enc_key: -{KEY}",
    f"enc_key:\n  {KEY}",
    f"enc_key\n  {KEY}",
    f"enc_key {KEY}",
    f"enc_key = {KEY}",
    f"enc_key => '{KEY}'",
    f"enc_key: '{KEY}",
    f'enc_key: "{KEY}',
    f'enc_key: "{KEY}\n{KEY}"',
    f'enc_key: "{KEY}" {KEY}',
    f'enc_key: "{KEY}"{KEY}"',
    f"enc_key: “{KEY}”",
    f"enc_key: “{KEY}",
    f"enc_key: '\\q{KEY}'",
    f"enc_key: '{KEY}\\x01'",
    f"enc_key: ['{KEY}']",
    f"enc_key: [{KEY}, {KEY}]",
    f"enc_key {{ '{KEY}' }}",
    f"enc_key {{ {KEY}: {KEY} }}",
    f"enc_key {{ value: {KEY}",
    f"enc_kye: '{KEY}'",
    f"verbose: enc_key '{KEY}'",
    f"verbose: 'enc_key: {KEY}",
    f"verbose: 'enc_key: '{KEY}'",
    f"verbose: ’enc_key: '{KEY}'",
    f"verbose: “enc_key: {KEY}”",
    f"verbose: 'a' enc_key: '{KEY}' \"",
    f"enc_kye: {KEY}",
    f"enckey: {KEY} {KEY}",
    f"enc-key: {KEY}",
    f"ENC_KEY: {KEY}",
    f"enc_key：{KEY}",
    f"“enc_key”: {KEY}",
    f"'enc_key': {KEY}",
    f"encryption_key: {KEY} {KEY}",
    f"password: {KEY} {KEY}",
    f"training_config {{ enc_key: '{KEY}' }}",
    f"training_config {{ enc_key: {KEY} }}",
    f"training_config {{ visualizer {{ wandb_config {{ key: {KEY} }} }} }}",
    f"training_config {{ visualizer {{ wandb_config {{ key: [{KEY}] }} }} }}",
    f"training_config {{ visualizer {{ wandb_config {{ key: '{KEY} }} }} }}",
    f"training_config {{ visualizer {{ wandb_config {{ kye: {KEY} {KEY} }} }} }}",
    f"training_config {{ visualizer {{ wandb_config: key: {KEY}",
]


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("side", ["before", "behind"])
def test_no_message_has_a_key(text: str, side: str) -> None:
    whole = f"{text}\n{FASTER}" if side == "before" else f"{FASTER}{text}\n"
    with pytest.raises(SpecError) as error:
        parse_spec(whole, "a.txt", "faster_rcnn")
    assert KEY not in str(error.value)
    with pytest.raises(SpecError) as error:
        parse_spec(whole, "a.txt")
    assert KEY not in str(error.value)


@pytest.mark.parametrize("text", [text for text in WRONG if "kye: hunter" not in text])
def test_no_redacted_text_has_a_key(text: str) -> None:
    hidden = redact_text(f"{FASTER}{text}\nverbose: true\n")
    assert KEY not in hidden
    assert hidden.startswith(FASTER)
    assert hidden.endswith("\nverbose: true\n")


@pytest.mark.parametrize(
    "comment",
    [
        f"# enc_key: '{KEY}'",
        f"#enc_key = {KEY}",
        f"# not {KEY}",
        f"// {KEY}",
        f"/* enc_key: {KEY} */",
        f"# verbose: true enc_key: {KEY}",
        f'# wandb_config {{ project: "x" key: "{KEY * 3}" }}',
        f"# verbose: true enc_key: {KEY}",
        f'# wandb_config {{ project: "x" key: "{KEY * 3}" }}',
    ],
)
def test_no_comment_of_a_redacted_text_has_a_key(comment: str) -> None:
    assert KEY not in redact_text(f"{FASTER}enc_key: '{KEY}' {comment}\n")


def test_a_key_that_is_only_in_a_comment_is_redacted() -> None:
    assert redact_text(f"# enc_key: '{KEY}'\n{FASTER}") == f"# enc_key: <redacted>\n{FASTER}"


def test_a_sound_key_is_read_whole() -> None:
    text = f"{FASTER}enc_key: '{KEY}'\n  'more' # of it\nverbose: true"
    assert parse_spec(text).config.enc_key == f"{KEY}more"
    assert redact_text(text) == f'{FASTER}enc_key: "<redacted>" # of it\nverbose: true'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"enc_key: {KEY}", "24:10: enc_key is not text in quotes"),
        (f"enc_key: '{KEY}", "24:10: enc_key is not closed: a ' is missing in this line"),
        (f"enc_key: “{KEY}”", "24:10: enc_key has typographic quotes"),
        (f"enc_key: ['{KEY}']", "24:10: enc_key needs text in quotes, found a list"),
        (f"enc_key '{KEY}'", "24:9: expected ':' behind enc_key, found a key"),
        (
            f"enc_kye: {KEY}",
            "24:1: unknown field 'enc_kye' at the top level; did you mean 'enc_key'?",
        ),
    ],
)
def test_errors_in_a_key_are_reported_without_the_key(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(FASTER + text, "a.txt")
    assert str(error.value) == f"a.txt:{sentence}"


@pytest.mark.parametrize("label", ["key", "keys", "token", "monkey", "enc_key", "value"])
def test_labels_that_sound_like_keys_are_labels(label: str) -> None:
    text = FASTER.replace('"Car"', f'"{label}"')
    assert dict(parse_spec(text).config.dataset_config.target_class_mapping) == {label: "car"}
    assert redact_text(text) == text


def test_a_key_of_the_wrong_type_in_a_config_is_not_shown() -> None:
    config = parse_spec(MASK).config
    with config.ignore_type():
        config.enc_key = [KEY]
    with pytest.raises(SpecError) as error:
        validate(config, "mask_rcnn")
    assert str(error.value) == "config.enc_key is not text in quotes"
    config = parse_spec(MASK).config
    config.enc_key = f"{KEY}\n"
    with pytest.raises(SpecError) as error:
        validate(config, "mask_rcnn")
    assert KEY not in str(error.value)


def test_a_path_with_a_token_in_it_is_read_and_not_shown() -> None:
    text = FASTER.replace("records/*", f"http://x/?token={KEY}")
    source = parse_spec(text).config.dataset_config.data_sources[0]
    assert source.tfrecords_path == f"http://x/?token={KEY}"
    with pytest.raises(SpecError) as error:
        parse_spec(text.replace("tfrecords_path", "source_weight"), "a.txt")
    assert (
        str(error.value)
        == "a.txt:9:20: dataset_config.data_sources[0].source_weight is not a number"
    )
