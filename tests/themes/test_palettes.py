import math
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from textual.app import App, ComposeResult
from textual.color import Color
from textual.geometry import Region
from textual.widgets import Static

from themes import PRODUCT_COLOURS, PaletteError, load_palette, palette_files, theme_named

NAMES = sorted(palette_files())
GROUNDS = {"free", "line", "selection", "selection-text", "code-background"}
COMPUTABLE = [name for name in NAMES if not theme_named(name).ansi]
ON_BACKGROUND = tuple(name for name in PRODUCT_COLOURS if name not in GROUNDS)
ENOUGH = 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's ratio, 1 to 21."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = [part / 255 for part in Color.parse(colour).rgb]
    red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_pairs(name: str) -> list[tuple[str, str, str]]:
    theme = theme_named(name)
    colours = theme.variables
    background, surface = str(theme.background), str(theme.surface)
    pairs = [(each, colours[each], ground) for each in ON_BACKGROUND for ground in (background, surface)]
    own = {"foreground": theme.foreground, "primary": theme.primary, "accent": theme.accent}
    own |= {"success": theme.success, "warning": theme.warning, "error": theme.error}
    pairs += [(each, str(colour), background) for each, colour in own.items()]
    code = [each for each in ON_BACKGROUND if each.startswith("code")]
    pairs += [(each, colours[each], colours["code-background"]) for each in code]
    return [*pairs, ("selection-text", colours["selection-text"], colours["selection"])]


def test_there_is_a_dark_a_light_a_high_contrast_and_a_terminal_palette() -> None:
    assert {"vramble", "paper", "contrast", "terminal"} <= set(NAMES)
    assert theme_named("vramble").dark
    assert not theme_named("paper").dark
    assert theme_named("terminal").ansi


@pytest.mark.parametrize("name", NAMES)
def test_every_palette_names_every_product_colour(name: str) -> None:
    assert PRODUCT_COLOURS.keys() <= theme_named(name).variables.keys()


@pytest.mark.parametrize("name", COMPUTABLE)
def test_every_text_colour_is_readable_on_what_it_lies_on(name: str) -> None:
    dim = [
        f"{colour} {value} on {ground}: {contrast(value, ground):.2f}"
        for colour, value, ground in text_pairs(name)
        if contrast(value, ground) < ENOUGH
    ]
    assert dim == []


def test_the_high_contrast_palette_reaches_seven_to_one() -> None:
    assert min(contrast(value, ground) for _, value, ground in text_pairs("contrast")) >= 7


@pytest.mark.parametrize("name", COMPUTABLE)
def test_the_parts_of_a_gauge_tell_apart(name: str) -> None:
    colours = theme_named(name).variables
    used = [Color.parse(colours[part]) for part in ("weights", "kv", "activations", "others", "free")]
    distances = [distance(a, b) for a in used for b in used if a != b]
    assert min(distances) > 30


def distance(one: Color, other: Color) -> float:
    return math.dist(one.rgb, other.rgb)


def test_the_terminal_palette_uses_only_the_sixteen_colours() -> None:
    theme = theme_named("terminal")
    own = [theme.primary, theme.foreground, theme.background, theme.surface, theme.panel, theme.error]
    for colour in (*own, *(theme.variables[name] for name in PRODUCT_COLOURS)):
        assert Color.parse(str(colour)).ansi is not None


class Small(App[None]):
    CSS = "Static { color: $kv; background: $code-background; outline: none; }"

    def __init__(self, name: str, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self.register_theme(theme_named(name))
        self.theme = name

    def compose(self) -> ComposeResult:
        yield Static("kv")


@pytest.mark.parametrize("name", NAMES)
async def test_a_screen_takes_every_palette(name: str) -> None:
    app = Small(name)
    async with app.run_test(size=(20, 5)):
        assert app.theme_variables["kv"] == theme_named(name).variables["kv"]


@pytest.mark.parametrize("name", NAMES)
async def test_no_color_leaves_no_hue_on_the_screen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Small(name)
    async with app.run_test(size=(20, 5)):
        for colour in shown_colours(app):
            assert colour.is_default or len(set(colour.get_truecolor())) == 1


async def test_no_color_with_the_terminal_s_colours_leaves_none_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Small("terminal", ansi_color=True)
    async with app.run_test(size=(20, 5)):
        assert all(colour.is_default for colour in shown_colours(app))


def shown_colours(app: App[None]) -> list[RichColor]:
    [line, *_] = app.query_one(Static).render_lines(Region(0, 0, 2, 1))
    for line_filter in app._filters:
        line = line.apply_filter(line_filter, Color(0, 0, 0))
    styles = [segment.style for segment in line if segment.style]
    assert styles
    return [colour for style in styles for colour in (style.color, style.bgcolor) if colour]


@pytest.fixture
def good() -> str:
    return palette_files()["vramble"].read_text(encoding="utf-8")


def broken(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PaletteError) as caught:
        load_palette(file)
    assert str(file) in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_palette_that_is_no_toml_is_a_sentence_with_the_line(tmp_path: Path) -> None:
    assert "line 2" in broken(tmp_path, 'dark = true\nkv = "#fff\n')


def test_an_unknown_colour_name_is_named(tmp_path: Path, good: str) -> None:
    assert "weihgts" in broken(tmp_path, good + 'weihgts = "#ffffff"\n')


def test_a_missing_colour_is_named(tmp_path: Path, good: str) -> None:
    lines = [line for line in good.splitlines() if not line.startswith("kv ")]
    assert "lacks kv" in broken(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("value", ['"#12"', "7", '"blurple"'])
def test_a_value_that_is_no_colour_is_named(tmp_path: Path, good: str, value: str) -> None:
    text = good.replace('kv = "#dcae6a"', f"kv = {value}")
    assert "kv is no colour" in broken(tmp_path, text)


def test_dark_must_be_true_or_false(tmp_path: Path, good: str) -> None:
    assert "dark is 'yes'" in broken(tmp_path, good.replace("dark = true", 'dark = "yes"'))


def test_a_palette_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PaletteError, match="cannot be read"):
        load_palette(tmp_path / "gone.toml")


def test_an_unknown_theme_lists_those_that_exist() -> None:
    with pytest.raises(PaletteError) as caught:
        theme_named("blurple")
    assert "paper" in caught.value.hint


def test_a_palette_of_the_person_wins_over_the_product_s(tmp_path: Path, good: str) -> None:
    (tmp_path / "vramble.toml").write_text(good.replace("#dcae6a", "#ffcc00"), encoding="utf-8")
    assert theme_named("vramble", [tmp_path]).variables["kv"] == "#ffcc00"
