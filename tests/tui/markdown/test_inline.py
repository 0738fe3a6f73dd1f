from tests.tui.markdown.layouts import drawn, rows_of
from tests.vt_oracle import intruders


def inks(text: str) -> list[tuple[str, tuple[str, ...]]]:
    (row,) = rows_of([text], 200)
    return [(span.text, span.ink) for span in row.spans]


def test_weights_add_up() -> None:
    assert inks("**a *b* `c`** ~~d~~") == [
        ("a ", ("strong",)),
        ("b", ("strong", "em")),
        (" ", ("strong",)),
        ("c", ("strong", "code")),
        (" ", ()),
        ("d", ("strike",)),
    ]


def test_a_link_is_its_text_and_its_address() -> None:
    assert inks("[docs](https://example.com/x)") == [
        ("docs", ("link",)),
        (" (https://example.com/x)", ("address",)),
    ]


def test_a_link_that_is_its_own_text_is_shown_once() -> None:
    assert drawn("<https://example.com>") == ["https://example.com"]


def test_a_punycode_address_is_shown_as_what_it_is() -> None:
    assert drawn("[bank](https://xn--e1afmkfd.example)") == ["bank (https://xn--e1afmkfd.example)"]


def test_an_image_is_a_sentence() -> None:
    assert drawn("![a cat](cat.png)") == ["[image: a cat] (cat.png)"]


def test_entities_cannot_smuggle_controls() -> None:
    text = "\n".join(drawn("a&#27;[31mb&#x9b;c&#x202e;d&#x200f;e&lt;"))
    assert not intruders(text.encode())
    assert text.endswith("e<")


def test_code_tells_its_colours_by_language() -> None:
    rows = rows_of(["```python\ndef f(): return 'x'  # why\n```\n"], 80)
    found = {span.ink[-1] for row in rows for span in row.spans}
    assert {"keyword", "function", "string", "comment"} <= found


def test_an_unknown_language_is_plain_code() -> None:
    (row,) = rows_of(["```klingon\nqapla'\n```\n"], 80)
    assert [(span.text, span.ink) for span in row.spans] == [("qapla'", ("block",))]
