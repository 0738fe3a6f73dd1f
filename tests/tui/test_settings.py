import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.values import BudgetRequest, Quantization, SamplingParams
from tui.settings import (
    BudgetSettings,
    Settings,
    SettingsError,
    change_settings,
    load_settings,
    read_settings,
)
from tui.settings_text import change_line, literal, whole_text

WRITTEN = """\
# mine
theme = "nord"  # at night

[sampling]
temperature = 0.7
# the rest the model knows

[budgets]
gpu = ["0=20GiB", "1=512M"]
ram = "8GiB"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vramble" / "settings.toml"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_an_absent_file_holds_the_defaults(file: Path) -> None:
    assert read_settings(file) == Settings()
    assert load_settings(file).problem == ""


def test_what_is_written_is_read(file: Path) -> None:
    write(file, WRITTEN)
    settings = read_settings(file)
    assert settings.theme == "nord"
    assert settings.sampling == SamplingParams(temperature=0.7)
    assert settings.budgets.request() == BudgetRequest(gpu=((0, 20 << 30), (1, 512 << 20)), ram_bytes=8 << 30)


def test_every_setting_can_be_written(file: Path) -> None:
    write(
        file,
        """
last_model = "Qwen/Qwen3-8B"
model_folders = ["/data/models", "~/models"]
theme = "paper"
memory_panel = false
context_window = 16384
quantization = "nf4"
system_prompt = "Answer briefly."
[sampling]
top_p = 0.9
top_k = 40
min_p = 0.05
repetition_penalty = 1.1
max_new_tokens = 512
seed = 7
stop = ["###"]
[budgets]
disk = "1TB"
disk_folder = "/scratch"
""",
    )
    settings = read_settings(file)
    assert settings.model_folders == (Path("/data/models"), Path("~/models"))
    assert settings.quantization is Quantization.NF4
    assert settings.sampling.stop == ("###",)
    assert settings.budgets.request().disk_folder == Path("/scratch")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("theme = 3", "line 1", "theme"),
        ("\n\ncolour = 1", "line 3", "colour is not a setting"),
        ('[sampling]\ntop_k = "a"', "line 2", "sampling.top_k"),
        ("[sampling]\ntemperature = 9", "line 2", "temperature is 9"),
        ("[sampling]\nzap = 1", "line 2", "sampling.zap is not a setting"),
        ('[budgets]\n\nram = "lots"', "line 3", "ram: 'lots' is not a size"),
        ('[budgets]\ngpu = ["20GiB"]', "line 2", "gpu: '20GiB' does not name a GPU"),
        ("[budgets]\ngpu = [3]", "line 2", "budgets.gpu"),
        ("context_window = 0", "line 1", "context_window must be at least 1"),
        ("model_folders = [1]", "line 1", "model_folders"),
        ("theme = ", "line 1", "not TOML"),
        ("theme = 'a'\ntheme = 'b'", "line 2", "not TOML"),
    ],
)
def test_a_broken_file_is_one_sentence_with_line_and_key_and_is_left_as_it_is(
    file: Path, text: str, line: str, key: str
) -> None:
    write(file, text)
    found = load_settings(file)
    assert found.settings == Settings()
    assert line in found.problem
    assert key in found.problem
    assert "\n" not in found.problem
    assert file.read_text() == text
    with pytest.raises(SettingsError):
        change_settings(file, theme="paper")
    assert file.read_text() == text


def test_bytes_that_are_no_text_are_a_sentence(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b'theme = "\xff"')
    assert "not UTF-8" in load_settings(file).problem


def test_a_folder_in_the_file_s_place_is_a_sentence(file: Path) -> None:
    file.mkdir(parents=True)
    assert "cannot be read" in load_settings(file).problem


def test_a_change_keeps_comments_and_every_other_line(file: Path) -> None:
    write(file, WRITTEN)
    settings = change_settings(file, theme="paper", memory_panel=False)
    assert settings.theme == "paper"
    assert read_settings(file) == settings
    assert file.read_text() == WRITTEN.replace(
        '"nord"  # at night', '"paper"  # at night\nmemory_panel = false'
    )


def test_a_change_of_a_table_touches_its_keys_alone(file: Path) -> None:
    write(file, WRITTEN)
    change_settings(file, sampling=SamplingParams(top_k=5), budgets=BudgetSettings(ram="9GiB"))
    assert file.read_text() == (
        '# mine\ntheme = "nord"  # at night\n\n[sampling]\n# the rest the model knows\ntop_k = 5\n\n'
        '[budgets]\ngpu = []\nram = "9GiB"\n'
    )


def test_a_new_file_is_private(file: Path) -> None:
    change_settings(file, last_model="Qwen/Qwen3-8B", sampling=SamplingParams(seed=1))
    assert file.read_text() == 'last_model = "Qwen/Qwen3-8B"\n\n[sampling]\nseed = 1\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_value_over_several_lines_makes_the_file_be_written_anew_and_still_right(file: Path) -> None:
    write(file, 'system_prompt = """Be\nbrief."""\ntheme = "nord"\n')
    settings = change_settings(file, system_prompt="Be long.")
    assert settings == Settings(system_prompt="Be long.", theme="nord")
    assert read_settings(file) == settings


def test_an_inline_table_is_still_changed_rightly(file: Path) -> None:
    write(file, 'sampling = { top_k = 3, seed = 1 }\n[budgets]\nram = "1GiB"\n')
    settings = change_settings(file, sampling=SamplingParams(top_k=4))
    assert read_settings(file) == settings
    assert settings.sampling == SamplingParams(top_k=4)
    assert settings.budgets.ram == "1GiB"


def test_settings_that_cannot_be_written_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="cannot be written"):
        change_settings(tmp_path / "link" / "settings.toml", theme="paper")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_survives_being_written_and_read(text: str) -> None:
    assert tomllib.loads(whole_text({"a": text, "t": {"b": [text], "c": None}})) == {
        "a": text,
        "t": {"b": [text]},
    }
    assert tomllib.loads(change_line("a = 1  # one\n[t]\nb = 2\n", "t", "b", text))["t"]["b"] == text


def test_literals_are_toml() -> None:
    assert [literal(value) for value in (True, 3, 0.5, "a\x7f", [1, "b"], Path("/a"))] == [
        "true",
        "3",
        "0.5",
        '"a\\u007f"',
        '[1, "b"]',
        '"/a"',
    ]


def test_a_key_is_removed_where_its_value_is_none() -> None:
    assert change_line("a = 1\n[t]\na = 2\n", "t", "a", None) == "a = 1\n[t]\n"
    assert change_line("a = 1\n", "", "a", None) == ""
    assert change_line("a = 1\n", "t", "a", None) == "a = 1\n"


def test_a_key_goes_before_the_next_table() -> None:
    assert change_line("a = 1\n\n[[x]]\ny = 1\n", "", "b", 2) == "a = 1\nb = 2\n\n[[x]]\ny = 1\n"
